//! The history doctor: a conversation made valid for the wire it goes to, with a report of every change.
//!
//! A history may come from another vendor, be cut by a crash, or be made by hand. Before every call an encoder
//! lets it be mended by the [`Rules`] of its wire; a host can [`examine`] one without sending it.
//!
//! - A history in order is not copied.
//! - The same history gives the same result, and mending twice changes nothing more.
//! - A change depends on what stands before it (but for a result that comes later, and for the last turn), so a
//!   history that grows at its end keeps its beginning, and the vendor's prompt cache holds.
//!
//! ```
//! use stepwell_core::{Message, Part, Role, ToolCall};
//! use stepwell_providers::doctor;
//! let call = ToolCall::new("call_1", "search", serde_json::json!({ "q": "ledger" }));
//! let cut_by_a_crash = [Message::user("Find it."), Message::new(Role::Assistant, vec![Part::ToolCall(call)])];
//! let mended = doctor::examine("openai/gpt-4o", &cut_by_a_crash)?;
//! assert_eq!(mended.messages.len(), 3);
//! assert_eq!(mended.changes[0].kind, doctor::ChangeKind::CallClosed);
//! # Ok::<(), stepwell_core::Error>(())
//! ```

mod change;
mod draft;
mod ids;
mod pairs;
mod parts;
mod rules;
mod turns;
mod wires;

pub use change::{Change, ChangeKind, Mended};
pub use rules::{
    Alphabet, Arguments, Ids, Names, OrphanResults, Prefill, ReasoningRule, Rules, SystemPlace, Turns,
};
pub use wires::rules_of;

#[cfg(feature = "openai")]
pub(crate) use turns::NOTED;

use draft::Chart;
use std::borrow::Cow;
use stepwell_core::{Error, Message, ModelInfo, Result};

/// Makes a history valid for a wire with these rules, on its way to this model.
pub fn mend<'a>(messages: &'a [Message], rules: &Rules, info: &ModelInfo) -> Mended<'a> {
    let mut chart = Chart::new(messages, rules, info);
    chart.clean_parts();
    chart.pair_server_results();
    chart.place_system();
    chart.pair_results();
    chart.drop_dangling_reasoning();
    chart.drop_lone_reasoning();
    chart.order_turns();
    let (messages, changes) = chart.finish(messages);
    Mended { messages, changes }
}

/// What [`mend`] would do to a history on its way to a model such as `anthropic/claude-sonnet-5`; nothing is sent.
///
/// # Errors
/// [`Error::InvalidInput`] for a name of another form and a file of models that cannot be read, [`Error::NotFound`] for a vendor without known rules.
pub fn examine<'a>(model: &str, messages: &'a [Message]) -> Result<Mended<'a>> {
    let (vendor, name) = model.trim().split_once(['/', ':']).ok_or_else(|| {
        Error::invalid(
            "model name",
            "write it as vendor/model, for example anthropic/claude-sonnet-5",
        )
    })?;
    #[cfg_attr(not(feature = "http"), allow(unused_mut))] // without it there is no vendor to be described
    let mut info = ModelInfo::new(vendor, name);
    #[cfg(feature = "http")]
    crate::catalogue::describe(&mut info)?;
    let rules = rules_of(&info).ok_or_else(|| Error::NotFound {
        what: "rules for the history of vendor".to_owned(),
        name: vendor.chars().take(64).collect(),
        hint: "use `mend` with rules of your own".to_owned(),
    })?;
    Ok(mend(messages, &rules, &info))
}

/// The same messages, or the mended ones where there are any.
pub(crate) type Messages<'a> = Cow<'a, [Message]>;

#[cfg(test)]
mod tests;
