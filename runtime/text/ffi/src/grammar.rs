// SPDX-License-Identifier: Apache-2.0
//! Token masks of JSON schemas, Lark grammars and regular expressions, by the `llguidance` crate.

use crate::closed_objects::close_objects;
use crate::{destroy, guard, guard_value, Buffer, Slice};
use llguidance::api::{GrammarInit, ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Logger, Matcher, ParserFactory};
use serde_json::Value;
use std::sync::Arc;

/// Sources come from strangers. Times are of one 2.6 GHz core.
const LIMITS: ParserLimits = ParserLimits {
    max_items_in_row: 2_000,
    initial_lexer_fuel: 300_000,   // half a second at worst
    step_lexer_fuel: 100_000,      // 7 ms a mask
    step_max_items: 25_000,        // 1 ms a mask
    max_lexer_states: 8_000,       // 1 to 2 kB each
    max_grammar_size: 50_000,      // half a second at worst
    precompute_large_lexemes: false, // a walk over the whole vocabulary, which no fuel bounds
    verbose_errors: false,           // errors go to clients: no dumps of parser states
};
/// Grammars in Lark are read by recursion: over brackets, and from rule to rule.
const MAX_NESTING: usize = 64;
const MAX_RULES: usize = 500;
/// What may be left out, behind each other in one expression, costs memory by its square. Terminals of Lark are written
/// out where they are used, which only the lexer's fuel bounds.
const MAX_REGEX_OPERATORS: usize = 2_000;
const LARK_LEXER_FUEL: u64 = 30_000;
/// Members of one object cost time by their square, items that must come by their number.
const MAX_PROPERTIES: usize = 1_000;
const MAX_ITEMS: f64 = 10_000.0;
/// A state for each remainder.
const MAX_MULTIPLE: u64 = 10_000;
/// What is left of that recursion must fit: derived regexes nest as deep as their source is long.
const STACK_BYTES: usize = 64 << 20;

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
        let factory = &(*vocabulary).factory;
        let matcher = on_large_stack(|| compile(factory, kind, text))?;
        out.write(Box::into_raw(Box::new(Grammar { matcher })));
        Ok(())
    })
}

fn compile(factory: &ParserFactory, kind: i32, text: &str) -> Result<Matcher, String> {
    let grammar = match kind {
        0 => TopLevelGrammar::from_json_schema(schema_of(text)?),
        1 => TopLevelGrammar::from_lark(checked_lark(text)?.to_string()),
        2 => {
            check_operators(count_operators(text))?;
            TopLevelGrammar::from_regex(text)
        }
        3 => TopLevelGrammar::from_lark(tool_calls(text)?),
        _ => return Err(format!("grammar kind is {kind}; known are 0 to 3")),
    };
    let mut limits = LIMITS;
    if kind == 1 {
        limits.initial_lexer_fuel = LARK_LEXER_FUEL;
    }
    let matcher = Matcher::new(factory.create_parser_from_init_ext(
        GrammarInit::Serialized(grammar),
        Logger::new(0, 0),
        InferenceCapabilities::default(),
        limits,
    ));
    // A grammar that nothing can begin, or whose first mask is too dear, is found now.
    let fault = matcher.get_error().or_else(|| matcher.deep_clone().compute_mask_or_eos().err().map(|e| e.to_string()));
    fault.map_or(Ok(matcher), |message| Err(plain_words(&message)))
}

/// The crate's messages without what it adds for its own developers.
fn plain_words(message: &str) -> String {
    let message = message.replace("\n<non-verbose/>", "");
    if message.starts_with("NoExtension") { "no text can match it".into() } else { message }
}

/// One space behind ':' and ',' and no other: a model that may write white space can go on writing it. An exclusive
/// choice is taken as a choice, as OpenAI's own structured outputs do.
fn schema_of(text: &str) -> Result<Value, String> {
    let schema: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    SchemaCosts::check(&schema)?;
    Ok(with_options(schema))
}

fn with_options(mut schema: Value) -> Value {
    close_objects(&mut schema);
    if let Some(fields) = schema.as_object_mut() {
        let options = serde_json::json!({
            "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": ", "coerce_one_of": true
        });
        fields.insert("x-guidance".into(), options);
    }
    schema
}

/// The grammar of an answer that calls tools, out of {"tools": [{"name", "parameters"}], "open", "close": texts around a
/// call, "arguments": its key of these, "many": whether it may call again, "text": whether it may say something before,
/// or say nothing but that, "answer": a schema of what it may say instead of calling}.
fn tool_calls(text: &str) -> Result<String, String> {
    let source: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    SchemaCosts::check(&source)?;
    let quoted = |text: &str| Value::String(text.into()).to_string();
    let part = |name: &str| source[name].as_str().unwrap_or_default().to_string();
    let flag = |name: &str| source[name].as_bool().unwrap_or(false);
    let (open, close) = (part("open"), part("close"));
    let mut rules = String::new();
    let mut names = Vec::new();
    for (place, tool) in source["tools"].as_array().into_iter().flatten().enumerate() {
        let head = format!("{{\"name\": {}, {}: ", tool["name"], quoted(&part("arguments")));
        let parameters = with_options(tool["parameters"].clone());
        rules += &format!("tool{place}: {} %json {parameters} {}\n", quoted(&head), quoted(&format!("}}{close}")));
        names.push(format!("tool{place}"));
    }
    let marker = quoted(&open);
    let begin = if open.is_empty() { String::new() } else { marker.clone() + " " };
    rules += &format!("call: {begin}any\nany: {}\n", names.join(" | "));
    let more = if flag("many") { " (\"\\n\" call)*" } else { "" };
    let mut start = format!("call{more}");
    if flag("text") {
        // Text ends where the first call begins: lexemes are not taken back.
        start = format!("TEXT | before any{more}");
        rules += &format!("TEXT: /(?s:.+)/ & ~(/(?s:.*)/ {marker} /(?s:.*)/)\nbefore[suffix={marker}]: /(?s:.*)/\n");
    }
    if !source["answer"].is_null() {
        start += " | answer";
        rules += &format!("answer: %json {}\n", with_options(source["answer"].clone()));
    }
    Ok(format!("start: {start}\n{rules}"))
}

/// What the crate's own limits do not see.
struct SchemaCosts {
    operators: usize,
    /// The least common one of all that the schema names: they may meet.
    multiple: u64,
}

impl SchemaCosts {
    fn check(schema: &Value) -> Result<(), String> {
        let mut costs = SchemaCosts { operators: 0, multiple: 1 };
        costs.add(schema)?;
        check_operators(costs.operators)
    }

    /// Goes as deep as the JSON reader lets values be.
    fn add(&mut self, schema: &Value) -> Result<(), String> {
        for (name, value) in schema.as_object().into_iter().flatten() {
            self.add_member(name, value)?;
            self.add(value)?;
        }
        schema.as_array().into_iter().flatten().try_for_each(|item| self.add(item))
    }

    fn add_member(&mut self, name: &str, value: &Value) -> Result<(), String> {
        let members = value.as_object().map_or(0, |fields| fields.len()) + value.as_array().map_or(0, |items| items.len());
        match name {
            "pattern" => self.operators += value.as_str().map_or(0, count_operators),
            "patternProperties" => {
                self.operators += value.as_object().into_iter().flatten().map(|(key, _)| count_operators(key)).sum::<usize>()
            }
            "properties" | "required" if members > MAX_PROPERTIES => {
                return Err(format!("`{name}` has {members} members; at most {MAX_PROPERTIES} are read"));
            }
            "minItems" | "maxItems" | "minProperties" | "maxProperties" if value.as_f64().is_some_and(|n| n > MAX_ITEMS) => {
                return Err(format!("`{name}` is {value}; at most {MAX_ITEMS} is read"));
            }
            "multipleOf" => self.add_multiple(value)?,
            _ => {}
        }
        Ok(())
    }

    /// By its digits, as 0.25 is taken for 25 hundredths.
    fn add_multiple(&mut self, value: &Value) -> Result<(), String> {
        let digits: String = value.to_string().chars().take_while(|c| *c != 'e').filter(char::is_ascii_digit).collect();
        let digits = digits.trim_matches('0').parse::<u64>().unwrap_or(1).max(1);
        let (mut larger, mut smaller) = (self.multiple, digits);
        while smaller > 0 {
            (larger, smaller) = (smaller, larger % smaller);
        }
        self.multiple = (self.multiple / larger).saturating_mul(digits);
        if self.multiple > MAX_MULTIPLE {
            return Err(format!("`multipleOf` {value} makes, with others, {} cases; at most {MAX_MULTIPLE} are read", self.multiple));
        }
        Ok(())
    }
}

fn count_operators(regex: &str) -> usize {
    regex.bytes().filter(|byte| b"?*{(".contains(byte)).count()
}

fn check_operators(count: usize) -> Result<(), String> {
    if count > MAX_REGEX_OPERATORS {
        return Err(format!("there are {count} of ? * {{ ( in regular expressions; at most {MAX_REGEX_OPERATORS} are read"));
    }
    Ok(())
}

fn checked_lark(text: &str) -> Result<&str, String> {
    let (mut depth, mut deepest) = (0usize, 0usize);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    if deepest > MAX_NESTING {
        return Err(format!("brackets are nested {deepest} deep; at most {MAX_NESTING} are read"));
    }
    let rules = text.bytes().filter(|byte| *byte == b':').count();
    if rules > MAX_RULES {
        return Err(format!("the grammar has about {rules} rules; at most {MAX_RULES} are read"));
    }
    // These would bring in what is bounded elsewhere.
    if let Some(directive) = ["%json", "%regex"].iter().find(|name| text.contains(**name)) {
        return Err(format!("{directive} in a grammar is not read here; ask for a JSON schema or a regular expression"));
    }
    check_operators(count_operators(text))?;
    Ok(text)
}

fn on_large_stack<T: Send>(body: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, body);
        let outcome = thread.map_err(|e| format!("no thread to compile it: {e}"))?.join();
        outcome.unwrap_or_else(|panic| Err(format!("panic: {}", crate::panic_text(&*panic))))
    })
}

/// Another state of the same grammar, where this one is.
#[no_mangle]
pub unsafe extern "C" fn girih_grammar_copy(
    grammar: *const Grammar,
    out: *mut *mut Grammar,
    error: *mut Buffer,
) -> i32 {
    guard(error, || {
        out.write(Box::into_raw(Box::new(Grammar { matcher: (*grammar).matcher.deep_clone() })));
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
        let allowed = (*grammar).matcher.compute_mask_or_eos().map_err(|e| plain_words(&e.to_string()))?;
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
        (*grammar).matcher.consume_token(token).map_err(|e| plain_words(&e.to_string()))
    })
}

#[no_mangle]
pub unsafe extern "C" fn girih_grammar_may_end(grammar: *mut Grammar) -> i32 {
    guard_value(false, || (*grammar).matcher.is_stopped() || (*grammar).matcher.is_accepting().unwrap_or(false)) as i32
}
