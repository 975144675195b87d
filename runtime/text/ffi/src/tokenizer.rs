// SPDX-License-Identifier: Apache-2.0
//! A tokenizer.json run by the `tokenizers` crate: the fallback for pipelines that the own engine does not know.

use crate::{destroy, guard, guard_value, Buffer, Slice};
use tokenizers::Tokenizer;

pub struct CrateTokenizer {
    parsing: Tokenizer,
    /// The same pipeline, with special tokens typed in a text left as text; the crate keeps that as a setting.
    literal: Tokenizer,
}

#[no_mangle]
pub unsafe extern "C" fn girih_crate_tokenizer_create(
    json: Slice,
    out: *mut *mut CrateTokenizer,
    error: *mut Buffer,
) -> i32 {
    guard(error, || {
        let mut parsing = Tokenizer::from_bytes(json.bytes()).map_err(|e| e.to_string())?;
        // A prompt is never cut or padded behind the caller's back.
        parsing.with_truncation(None).map_err(|e| e.to_string())?;
        parsing.with_padding(None);
        let mut literal = parsing.clone();
        literal.set_encode_special_tokens(true);
        out.write(Box::into_raw(Box::new(CrateTokenizer { parsing, literal })));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn girih_crate_tokenizer_destroy(tokenizer: *mut CrateTokenizer) {
    destroy(tokenizer);
}

#[no_mangle]
pub unsafe extern "C" fn girih_crate_tokenizer_encode(
    tokenizer: *const CrateTokenizer,
    text: Slice,
    add_special: i32,
    parse_special: i32,
    ids: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(error, || {
        let pipeline = if parse_special != 0 { &(*tokenizer).parsing } else { &(*tokenizer).literal };
        let encoding = pipeline.encode_fast(text.text()?, add_special != 0).map_err(|e| e.to_string())?;
        ids.write(Buffer::from_ids(encoding.get_ids().iter().copied()));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn girih_crate_tokenizer_decode(
    tokenizer: *const CrateTokenizer,
    ids: *const i32,
    count: usize,
    skip_special: i32,
    text: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(error, || {
        let ids: Vec<u32> = (0..count).map(|i| *ids.add(i)).filter(|id| *id >= 0).map(|id| id as u32).collect();
        let decoded = (*tokenizer).parsing.decode(&ids, skip_special != 0).map_err(|e| e.to_string())?;
        text.write(Buffer::from_bytes(decoded.into_bytes()));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn girih_crate_tokenizer_size(tokenizer: *const CrateTokenizer) -> i32 {
    guard_value(0, || {
        let vocabulary = (*tokenizer).parsing.get_vocab(true);
        vocabulary.values().max().map_or(0, |id| *id as i32 + 1)
    })
}

#[no_mangle]
pub unsafe extern "C" fn girih_crate_tokenizer_find(tokenizer: *const CrateTokenizer, token: Slice) -> i32 {
    guard_value(-1, || match token.text() {
        Ok(text) => (*tokenizer).parsing.token_to_id(text).map_or(-1, |id| id as i32),
        Err(_) => -1,
    })
}

#[no_mangle]
pub unsafe extern "C" fn girih_crate_tokenizer_specials(
    tokenizer: *const CrateTokenizer,
    ids: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(error, || {
        let added = (*tokenizer).parsing.get_added_tokens_decoder();
        ids.write(Buffer::from_ids(added.iter().filter(|(_, token)| token.special).map(|(id, _)| *id)));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn girih_crate_tokenizer_token(
    tokenizer: *const CrateTokenizer,
    id: i32,
    text: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(error, || {
        let token = u32::try_from(id).ok().and_then(|id| (*tokenizer).parsing.id_to_token(id));
        text.write(Buffer::from_bytes(token.unwrap_or_default().into_bytes()));
        Ok(())
    })
}
