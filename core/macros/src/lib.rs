//! The two macros of stepwell: `#[tool]` on an async function, `#[derive(State)]` on a struct.
//!
//! They expand to paths of the crate `stepwell`; name another with `crate = "..."`.

mod tool;

use proc_macro::TokenStream;

/// Turns an `async fn` into a tool of the same name: its doc comment is what the model reads, its arguments (each
/// with a doc comment of its own) are the schema, a `&ToolContext` argument gets the facts of the call.
///
/// It returns anything that serialises, or a `Result` of it whose error turns into a `ToolError`.
///
/// Options: `name = ".."`, `effect = "pure" | "idempotent" | "at_most_once"`, `risk = "read" | "write" | "egress"`,
/// `timeout_ms = 5000`, `sequential`, `crate = ".."`.
///
/// ```ignore
/// /// Current temperature of a city, in degrees Celsius.
/// #[tool]
/// async fn weather(
///     /// City and country, for example `Oslo, Norway`.
///     city: String,
/// ) -> Result<f64, ToolError> {
///     stations().get(&city).copied().ok_or_else(|| ToolError::Retry(format!("no station for `{city}`")))
/// }
/// let agent = Agent::new(model).tool(weather);
/// ```
#[proc_macro_attribute]
pub fn tool(attributes: TokenStream, item: TokenStream) -> TokenStream {
    tool::expand(attributes.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
