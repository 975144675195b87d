// SPDX-License-Identifier: Apache-2.0
//! Token masks of JSON schemas, Lark grammars and regular expressions, by the `llguidance` crate.

use crate::{destroy, guard, guard_value, Buffer, Slice};
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use std::sync::Arc;

pub struct GrammarVocabulary {
    factory: ParserFactory,
}

pub struct Grammar {
    matcher: Matcher,
}

#[no_mangle]
pub unsafe extern "C" fn girih_grammar_vocabulary_create(
    tokens: *const Slice,
    count: usize,
    eos: i32,
    out: *mut *mut GrammarVocabulary,
    error: *mut Buffer,
) -> i32 {
    guard(error, || {
        let words: Vec<Vec<u8>> = (0..count).map(|i| (*tokens.add(i)).bytes().to_vec()).collect();
        let eos = u32::try_from(eos).map_err(|_| format!("end-of-text token is {eos}; a grammar needs one"))?;
        let trie = TokTrie::from(&TokRxInfo::new(count as u32, eos), &words);
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&environment).map_err(|e| e.to_string())?;
        factory.quiet();
        out.write(Box::into_raw(Box::new(GrammarVocabulary { factory })));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn girih_grammar_vocabulary_destroy(vocabulary: *mut GrammarVocabulary) {
    destroy(vocabulary);
}

#[no_mangle]
pub unsafe extern "C" fn girih_grammar_create(
    vocabulary: *const GrammarVocabulary,
    kind: i32,
    source: Slice,
    out: *mut *mut Grammar,
    error: *mut Buffer,
) -> i32 {
    guard(error, || {
        let text = source.text()?;
        let grammar = match kind {
            0 => TopLevelGrammar::from_json_schema(serde_json::from_str(text).map_err(|e| e.to_string())?),
            1 => TopLevelGrammar::from_lark(text.to_string()),
            2 => TopLevelGrammar::from_regex(text),
            _ => return Err(format!("grammar kind is {kind}; 0 JSON schema, 1 Lark, 2 regular expression")),
        };
        let matcher = Matcher::new((*vocabulary).factory.create_parser(grammar));
        if let Some(message) = matcher.get_error() {
            return Err(message);
        }
        out.write(Box::into_raw(Box::new(Grammar { matcher })));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn girih_grammar_destroy(grammar: *mut Grammar) {
    destroy(grammar);
}

#[no_mangle]
pub unsafe extern "C" fn girih_grammar_mask(
    grammar: *mut Grammar,
    mask: *mut u32,
    words: usize,
    error: *mut Buffer,
) -> i32 {
    guard(error, || {
        let allowed = (*grammar).matcher.compute_mask_or_eos().map_err(|e| e.to_string())?;
        let bits = allowed.as_slice();
        for i in 0..words {
            mask.add(i).write(bits.get(i).copied().unwrap_or(0));
        }
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn girih_grammar_accept(grammar: *mut Grammar, token: i32, error: *mut Buffer) -> i32 {
    guard(error, || {
        let token = u32::try_from(token).map_err(|_| format!("token is {token}; ids are not negative"))?;
        (*grammar).matcher.consume_token(token).map_err(|e| e.to_string())
    })
}

#[no_mangle]
pub unsafe extern "C" fn girih_grammar_may_end(grammar: *mut Grammar) -> i32 {
    guard_value(false, || (*grammar).matcher.is_stopped() || (*grammar).matcher.is_accepting().unwrap_or(false)) as i32
}
