# SPDX-License-Identifier: Apache-2.0
"""A graph that looks tokens or positions up in a table with fewer rows than there are is refused, with both numbers."""
import pathlib
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE / "raise"))
import attention_spellings as spellings  # noqa: E402
import compiled_graph  # noqa: E402

Failure = compiled_graph.girih_cli.Failure
HIDDEN, STORED = 32, '#girih.storage<"f32">'

# x = embedding[token] + table[position]; logits = x . head
GRAPH = """
func.func @main(%tokens: tensor<?xi32>, %positions: tensor<?xi32>) -> tensor<?x{vocabulary}xf32> {attributes} {{
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %t = tensor.dim %tokens, %c0 : tensor<?xi32>
  %embedding = girih.weight "embedding" : tensor<{embedding}x32xf32, {stored}>
  %table = girih.weight "table" : tensor<{table}x32xf32, {stored}>
  %head = girih.weight "head" : tensor<{vocabulary}x32xf32, {stored}>
  %empty = tensor.empty(%t) : tensor<?x32xf32>
  %x = linalg.generic {{indexing_maps = [affine_map<(t, e) -> (t)>, affine_map<(t, e) -> (t)>, affine_map<(t, e) -> (t, e)>],
      iterator_types = ["parallel", "parallel"]}} ins(%tokens, %positions : tensor<?xi32>, tensor<?xi32>)
      outs(%empty : tensor<?x32xf32>) {{
  ^bb0(%token: i32, %position: i32, %out: f32):
    %row = arith.index_cast %token : i32 to index
    %at = arith.index_cast %position : i32 to index
    %column = linalg.index 1 : index
    %word = tensor.extract %embedding[%row, %column] : tensor<{embedding}x32xf32, {stored}>
    %place = tensor.extract %table[%at, %column] : tensor<{table}x32xf32, {stored}>
    %sum = arith.addf %word, %place : f32
    linalg.yield %sum : f32
  }} -> tensor<?x32xf32>
  %none = tensor.empty(%t) : tensor<?x{vocabulary}xf32>
  %init = linalg.fill ins(%zero : f32) outs(%none : tensor<?x{vocabulary}xf32>) -> tensor<?x{vocabulary}xf32>
  %logits = linalg.generic {{indexing_maps = [affine_map<(t, v, e) -> (t, e)>, affine_map<(t, v, e) -> (v, e)>,
      affine_map<(t, v, e) -> (t, v)>], iterator_types = ["parallel", "parallel", "reduction"]}}
      ins(%x, %head : tensor<?x32xf32>, tensor<{vocabulary}x32xf32, {stored}>)
      outs(%init : tensor<?x{vocabulary}xf32>) {{
  ^bb0(%a: f32, %b: f32, %c: f32):
    %p = arith.mulf %a, %b : f32
    %s = arith.addf %c, %p : f32
    linalg.yield %s : f32
  }} -> tensor<?x{vocabulary}xf32>
  return %logits : tensor<?x{vocabulary}xf32>
}}
"""


class ShortTables(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def compile(self, *, vocabulary=64, embedding=64, table=40, max_positions=40):
        weights, graph = self.folder / "weights.gguf", self.folder / "graph.mlir"
        rows = {"embedding": embedding, "table": table, "head": vocabulary}
        spellings.write_gguf(weights, {name: ((count, HIDDEN), [(7 * i % 31) / 31 for i in range(count * HIDDEN)])
                                       for name, count in rows.items()})
        stated = f"attributes {{girih.model = {{maxPositions = {max_positions} : i64}}}}" if max_positions else ""
        graph.write_text(GRAPH.format(vocabulary=vocabulary, embedding=embedding, table=table, stored=STORED,
                                      attributes=stated))
        return compiled_graph.compile_graph(graph, weights, self.folder / "out.girih", flags=["--no-golden"])

    def assert_refused(self, *seen, **shape):
        with self.assertRaises(Failure) as failure:
            self.compile(**shape)
        for words in seen:
            self.assertIn(words, str(failure.exception))

    def test_tables_that_are_long_enough_run(self):
        program = self.compile()
        tokens, _ = compiled_graph.girih_cli.run_tokens(program, [63, 0, 5], 4, self.folder)
        self.assertEqual(len(tokens), 4)

    def test_fewer_positions_than_the_graph_states(self):
        self.assert_refused("table of 39 rows", "positions, of which there are 40", "maxPositions = 39", table=39)

    def test_fewer_positions_than_where_none_are_stated(self):
        self.assert_refused("table of 40 rows", "positions, of which there are 4096", max_positions=None)

    def test_fewer_embeddings_than_logits(self):
        self.assert_refused("table of 63 rows", "tokens, of which there are 64", embedding=63)


if __name__ == "__main__":
    unittest.main()
