//! Chat Completions. <https://platform.openai.com/docs/api-reference/chat>

pub(crate) mod decode;
pub(crate) mod encode;
mod extras;
#[cfg(test)]
mod secrecy;
pub(crate) mod stream;
mod thought;
mod usage;
pub(crate) mod wire;
