// SPDX-License-Identifier: Apache-2.0
//! The border between C and the crates: buffers, errors, and the guard that lets no panic out. Contract: text_ffi.h.

mod chat_template;
mod closed_objects;
mod grammar;
mod python_json;
mod tokenizer;

use std::panic::{catch_unwind, AssertUnwindSafe};

/// Bytes that cross to C; capacity is kept so that they can be given back to the allocator as they came.
#[repr(C)]
pub struct Buffer {
    data: *mut std::ffi::c_void,
    size: usize,
    capacity: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Slice {
    data: *const u8,
    size: usize,
}

impl Buffer {
    pub fn from_bytes(bytes: Vec<u8>) -> Buffer {
        let mut bytes = std::mem::ManuallyDrop::new(bytes);
        Buffer { data: bytes.as_mut_ptr().cast(), size: bytes.len(), capacity: bytes.capacity() }
    }

    pub fn from_ids(ids: impl Iterator<Item = u32>) -> Buffer {
        Buffer::from_bytes(ids.flat_map(|id| id.to_ne_bytes()).collect())
    }
}

impl Slice {
    /// # Safety
    /// `data` points to `size` readable bytes that outlive the result.
    pub unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.size == 0 {
            return &[];
        }
        std::slice::from_raw_parts(self.data, self.size)
    }

    /// # Safety
    /// As bytes().
    pub unsafe fn text<'a>(self) -> Result<&'a str, String> {
        std::str::from_utf8(self.bytes()).map_err(|e| format!("text is not UTF-8 from byte {} on", e.valid_up_to()))
    }
}

/// Runs `body`; an error or a panic becomes status 1 with a message.
pub fn guard(error: *mut Buffer, body: impl FnOnce() -> Result<(), String>) -> i32 {
    let message = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return 0,
        Ok(Err(message)) => message,
        Err(panic) => format!("panic: {}", panic_text(&*panic)),
    };
    if !error.is_null() {
        unsafe { error.write(Buffer::from_bytes(message.into_bytes())) };
    }
    1
}

pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

/// For functions that cannot fail by contract: a panic gives `otherwise`.
pub fn guard_value<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(otherwise)
}

/// # Safety
/// `pointer` is null or came from Box::into_raw and is not used again.
pub unsafe fn destroy<T>(pointer: *mut T) {
    if !pointer.is_null() {
        guard_value((), || drop(Box::from_raw(pointer)));
    }
}

/// # Safety
/// `buffer` was filled by a function of this library and not freed yet.
#[no_mangle]
pub unsafe extern "C" fn girih_text_free(buffer: Buffer) {
    if !buffer.data.is_null() {
        drop(Vec::from_raw_parts(buffer.data.cast::<u8>(), buffer.size, buffer.capacity));
    }
}
