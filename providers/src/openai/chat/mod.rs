//! Chat Completions. <https://platform.openai.com/docs/api-reference/chat>

pub(crate) mod decode;
pub(crate) mod encode;
#[cfg(test)]
mod secrecy;
pub(crate) mod stream;
mod thought;
pub(crate) mod wire;
