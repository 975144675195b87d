// SPDX-License-Identifier: Apache-2.0
//! Chat templates in Jinja, with the functions, filters and white space rules of transformers, and with markers that
//! keep what messages say from becoming special tokens.

use crate::{destroy, guard, python_json, Buffer, Slice};
use minijinja::{context, AutoEscape, Environment, Error, ErrorKind, Value as JinjaValue};
use serde_json::Value;
use std::hash::{BuildHasher, RandomState};

/// Instructions per render: far above the longest conversation, yet an endless loop ends within a second.
const FUEL: u64 = 10_000_000;

pub struct Template {
    environment: Environment<'static>,
    bos: String,
    eos: String,
    /// Sorted, each once.
    specials: Vec<String>,
    /// The template walks a content array itself; else its text parts are joined first.
    takes_parts: bool,
}

struct Request {
    messages: Value,
    tools: Value,
    extra: serde_json::Map<String, Value>,
    add_generation_prompt: bool,
}

impl Template {
    fn new(source: &str, bos: &str, eos: &str, mut specials: Vec<String>) -> Result<Template, String> {
        specials.sort();
        specials.dedup();
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(FUEL));
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_formatter(|out, _, value| {
            out.write_str(&python_json::to_python_text(value)).map_err(Error::from)
        });
        environment.add_filter("tojson", |value: &JinjaValue, kwargs| python_json::to_json(value, kwargs));
        environment.add_filter("string", |value: &JinjaValue| python_json::to_python_text(value));
        environment.add_test("iterable", is_iterable);
        environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, format!("the template refused: {message}")))
        });
        environment.add_function("strftime_now", |format: String| strftime_now(&format));
        environment.add_template_owned("chat", without_generation_tags(source)).map_err(|e| describe(&e))?;
        let mut template =
            Template { environment, bos: bos.into(), eos: eos.into(), specials, takes_parts: false };
        template.takes_parts = template.walks_content_arrays();
        Ok(template)
    }

    /// Shows the template one content array: does its text come out, and not as a printed Python list?
    fn walks_content_arrays(&self) -> bool {
        let probe = "a1b2probe3c4";
        let request = Request {
            messages: serde_json::json!([{"role": "user", "content": [{"type": "text", "text": probe}]}]),
            tools: Value::Null,
            extra: Default::default(),
            add_generation_prompt: false,
        };
        self.run(&request).is_ok_and(|text| text.contains(probe) && !text.contains("'type'") && !text.contains("\"type\""))
    }

    fn run(&self, request: &Request) -> Result<String, Error> {
        let mut variables = request.extra.clone();
        for (name, value) in [("bos_token", &self.bos), ("eos_token", &self.eos)] {
            // A tokenizer without the token leaves the variable undefined, as transformers does.
            if !value.is_empty() {
                variables.entry(name).or_insert_with(|| Value::String(value.clone()));
            }
        }
        let fixed = context! {
            messages => request.messages,
            tools => request.tools,
            add_generation_prompt => request.add_generation_prompt,
            ..context! { documents => JinjaValue::from(()), ..JinjaValue::from_serialize(&variables) }
        };
        self.environment.get_template("chat")?.render(fixed)
    }

    fn render(&self, mut request: Request) -> Result<(String, Vec<u64>), String> {
        let messages = request.messages.as_array_mut().ok_or("messages are no array; give a list of objects")?;
        for message in messages.iter_mut() {
            let fields = message.as_object_mut().ok_or("a message is no object; each needs \"role\" and \"content\"")?;
            alias_reasoning(fields);
            if !self.takes_parts {
                join_text_parts(fields)?;
            }
        }
        let marker = unguessable_digits();
        for value in [&mut request.messages, &mut request.tools] {
            mark_specials(value, &self.specials, &marker);
        }
        for value in request.extra.values_mut() {
            mark_specials(value, &self.specials, &marker);
        }
        let rendered = match self.run(&request) {
            Ok(text) => text,
            Err(first) => self.run_without_nulls(request, first)?,
        };
        Ok(take_markers(&rendered, &marker))
    }

    /// Where a template cannot print a null content (Hugging Face's fails as well), an empty one is what is meant.
    fn run_without_nulls(&self, mut request: Request, first: Error) -> Result<String, String> {
        let mut changed = false;
        for message in request.messages.as_array_mut().into_iter().flatten() {
            if let Some(content) = message.get_mut("content").filter(|content| content.is_null()) {
                *content = Value::String(String::new());
                changed = true;
            }
        }
        if !changed {
            return Err(describe(&first));
        }
        self.run(&request).map_err(|_| describe(&first))
    }
}

/// Jinja's test: minijinja lets None be iterated, Python does not; templates ask before they take a length.
fn is_iterable(value: &JinjaValue) -> bool {
    use minijinja::value::ValueKind::{Iterable, Map, Seq, String, Undefined};
    matches!(value.kind(), Iterable | Map | Seq | String | Undefined)
}

fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text += &format!(": {inner}");
        source = inner.source();
    }
    text
}

/// transformers marks what the assistant wrote with {% generation %}; rendering alone, the tags do nothing.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(open) = rest.find("{%") {
        let Some(length) = rest[open..].find("%}") else { break };
        let tag = &rest[open + 2..open + length];
        let word = tag.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        out.push_str(&rest[..open + 2]);
        out.push_str(&match word {
            "generation" => tag.replace("generation", "if true"),
            "endgeneration" => tag.replace("endgeneration", "endif"),
            _ => tag.to_string(),
        });
        rest = &rest[open + length..];
    }
    out + rest
}

/// Reasoning is passed under three names; templates read one of two (transformers does the same).
fn alias_reasoning(message: &mut serde_json::Map<String, Value>) {
    let names = ["reasoning_content", "thinking", "reasoning"];
    let Some(reasoning) = names.iter().find_map(|name| message.get(*name).filter(|v| !v.is_null())).cloned() else {
        return;
    };
    if !message.contains_key("thinking") {
        message.shift_insert(0, "thinking".into(), reasoning.clone());
    }
    message.insert("reasoning_content".into(), reasoning);
}

fn join_text_parts(message: &mut serde_json::Map<String, Value>) -> Result<(), String> {
    let Some(Value::Array(parts)) = message.get("content") else { return Ok(()) };
    let mut texts = Vec::new();
    for part in parts {
        let kind = part.get("type").and_then(Value::as_str).unwrap_or("text");
        let text = part.get("text").and_then(Value::as_str).or_else(|| part.as_str());
        texts.push(text.ok_or_else(|| format!("content part of type \"{kind}\" has no text; this model reads text only"))?);
    }
    let joined = texts.join("\n");
    message.insert("content".into(), Value::String(joined));
    Ok(())
}

/// 40 digits from the system's random seed: survive upper(), tojson and the like, and cannot be typed in advance.
fn unguessable_digits() -> String {
    (0..2u32).map(|i| format!("{:020}", RandomState::new().hash_one(i))).collect()
}

/// Puts the marker behind the first character of whatever could become a special token: the token's whole text, its
/// beginning at a string's end (the next string may complete it), its end at a string's start.
fn mark_specials(value: &mut Value, specials: &[String], marker: &str) {
    match value {
        Value::String(text) => {
            if let Some(marked) = mark_text(text, specials, marker) {
                *text = marked;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| mark_specials(item, specials, marker)),
        Value::Object(fields) => {
            let keys_matter = fields.keys().any(|key| mark_text(key, specials, marker).is_some());
            if keys_matter {
                let old = std::mem::take(fields);
                for (key, item) in old {
                    fields.insert(mark_text(&key, specials, marker).unwrap_or(key), item);
                }
            }
            fields.values_mut().for_each(|item| mark_specials(item, specials, marker));
        }
        _ => {}
    }
}

fn mark_text(text: &str, specials: &[String], marker: &str) -> Option<String> {
    let mut places = Vec::new();
    // The end of a token whose beginning the template wrote: the marker goes in front.
    let start = text.len() - text.trim_start().len();
    let continues = |special: &String| {
        special.char_indices().skip(1).any(|(i, _)| text[start..].starts_with(&special[i..]))
    };
    if start < text.len() && specials.iter().any(continues) {
        places.push(start);
    }
    for (at, first) in text.char_indices() {
        if begins_special(&text.as_bytes()[at..], specials) {
            places.push(at + first.len_utf8());
        }
    }
    if places.is_empty() {
        return None;
    }
    let mut out = String::with_capacity(text.len() + places.len() * marker.len());
    let mut from = 0;
    for place in places {
        out.push_str(&text[from..place]);
        out.push_str(marker);
        from = place;
    }
    Some(out + &text[from..])
}

/// Whether a special token, or as much of one as the text has room for, stands at its start. Narrows the sorted range of
/// tokens byte by byte: a text of nothing but beginnings costs no more than its length.
fn begins_special(text: &[u8], specials: &[String]) -> bool {
    let mut range = specials;
    for (place, byte) in text.iter().enumerate() {
        match range.first() {
            None => return false,
            Some(shortest) if shortest.len() == place => return true,
            Some(_) => {}
        }
        let low = range.partition_point(|special| special.as_bytes()[place] < *byte);
        let high = range.partition_point(|special| special.as_bytes()[place] <= *byte);
        range = &range[low..high];
    }
    !range.is_empty()
}

/// The text without its markers, and where they stood.
fn take_markers(rendered: &str, marker: &str) -> (String, Vec<u64>) {
    let mut parts = rendered.split(marker);
    let mut text = parts.next().unwrap_or_default().to_string();
    let mut barriers = Vec::new();
    for part in parts {
        barriers.push(text.len() as u64);
        text.push_str(part);
    }
    (text, barriers)
}

fn strftime_now(format: &str) -> Result<String, Error> {
    let refuse = |what: &str| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {what}"));
    let format = std::ffi::CString::new(format).map_err(|_| refuse("the format holds a zero byte"))?;
    let mut text = vec![0u8; 1024];
    let length = unsafe {
        let now = libc::time(std::ptr::null_mut());
        let mut parts: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&now, &mut parts).is_null() {
            return Err(refuse("the local time is not known"));
        }
        libc::strftime(text.as_mut_ptr().cast(), text.len(), format.as_ptr(), &parts)
    };
    text.truncate(length);
    String::from_utf8(text).map_err(|_| refuse("the result is not UTF-8"))
}

fn parse_json(text: Slice, name: &str) -> Result<Value, String> {
    let bytes = unsafe { text.bytes() };
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(bytes).map_err(|e| format!("{name}: {e}"))
}

#[no_mangle]
pub unsafe extern "C" fn girih_template_create(
    source: Slice,
    bos: Slice,
    eos: Slice,
    specials: *const Slice,
    special_count: usize,
    out: *mut *mut Template,
    error: *mut Buffer,
) -> i32 {
    guard(error, || {
        // A special token of one character cannot be interrupted, and would forbid that character everywhere.
        let texts = (0..special_count).map(|i| (*specials.add(i)).text().map(str::to_string));
        let texts = texts.filter(|text| text.as_ref().map_or(true, |t| t.chars().count() > 1));
        let template = Template::new(source.text()?, bos.text()?, eos.text()?, texts.collect::<Result<_, _>>()?)?;
        out.write(Box::into_raw(Box::new(template)));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn girih_template_destroy(template: *mut Template) {
    destroy(template);
}

#[no_mangle]
pub unsafe extern "C" fn girih_template_render(
    template: *const Template,
    messages: Slice,
    tools: Slice,
    extra: Slice,
    add_generation_prompt: i32,
    text: *mut Buffer,
    barriers: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(error, || {
        let extra = match parse_json(extra, "template variables")? {
            Value::Null => Default::default(),
            Value::Object(fields) => fields,
            _ => return Err("template variables are no object; give {\"name\": value}".into()),
        };
        let request = Request {
            messages: parse_json(messages, "messages")?,
            tools: parse_json(tools, "tools")?,
            extra,
            add_generation_prompt: add_generation_prompt != 0,
        };
        let (rendered, positions) = (*template).render(request)?;
        text.write(Buffer::from_bytes(rendered.into_bytes()));
        barriers.write(Buffer::from_bytes(positions.iter().flat_map(|p| p.to_ne_bytes()).collect()));
        Ok(())
    })
}
