//! The two macros of stepwell: `#[tool]` on an async function, `#[derive(State)]` on a struct.
//!
//! They expand to paths of the crate `stepwell`; name another with `crate = "..."`.

mod state;
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

/// Makes a struct the state of a graph: each field is a key, `NameUpdate` beside it is a partial change.
///
/// A field says how updates are folded:
///
/// - nothing or `#[state(last)]`: the last value stands, and two writers in one step are an error;
/// - `append`: a `Vec` grows;
/// - `add`: a sum of numbers, of durations, or of any `Amount`;
/// - `merge`: a map takes keys;
/// - `set`: a set takes members;
/// - `messages`: `Messages` by id, which are put, replaced and removed;
/// - `custom = path`: a `fn(&mut Field, Field)`.
///
/// Beside any of them it may say how long it holds what was written, as in `#[state(append, ephemeral)]`:
///
/// - `ephemeral`: for the next step only; then it is as in the blank state again;
/// - `untracked`: in this process only. It is never in a journal and blank after a resume; its type need not serialise.
///
/// The other fields serialise. The struct is `Clone`, `Debug` and, for `Graph::builder()`, `Default`. For each field `x`
/// the update has `NameUpdate::x(..)`, `.with_x(..)` and `.overwrite_x(..)`; `Name::KEYS.x` is the key's name.
///
/// On the struct, `#[state(update = "Change")]` names the update otherwise, and `#[state(crate = "path")]` says where
/// the words of the agent crate are.
///
/// ```ignore
/// #[derive(Clone, Debug, Default, State)]
/// struct Research {
///     question: String,
///     #[state(append)]
///     findings: Vec<String>,
///     #[state(add)]
///     cents: u64,
/// }
/// let update = ResearchUpdate::findings(["one"]).with_cents(3);
/// ```
#[proc_macro_derive(State, attributes(state))]
pub fn derive_state(item: TokenStream) -> TokenStream {
    state::expand(item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
