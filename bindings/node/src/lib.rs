//! The Node package of stepwell, the native half: converts, calls, maps errors. The public half is `js/`.
//!
//! Data crosses as JSON text, one text per call or per batch: V8 parses a batch faster than Node-API builds its
//! objects. `#[napi]` needs `pub` items; nothing here is a promise to users, who import the package.

// Under test the macros register nothing, so what only JavaScript calls looks unused.
#![cfg_attr(test, allow(dead_code))]

mod agent;
mod ask;
mod bring;
mod chat;
mod convert;
mod ended;
mod error;
mod layers;
mod models;
mod rag;
mod runtime;
mod settings;
mod store;
mod stream;
mod tool;
