//! [`Warnings`]: what of a request could not be done as asked, each told once.

use crate::doctor::Mended;
use std::borrow::Cow;
use stepwell_core::{Part, Warning};

/// The warnings of one request to a vendor.
#[derive(Debug)]
pub(crate) struct Warnings {
    vendor: Cow<'static, str>,
    told: Vec<Warning>,
}

impl Warnings {
    pub(crate) fn new(vendor: impl Into<Cow<'static, str>>) -> Self {
        Self {
            vendor: vendor.into(),
            told: Vec::new(),
        }
    }

    pub(crate) fn warn(&mut self, warning: Warning) {
        if !self.told.contains(&warning) {
            self.told.push(warning);
        }
    }

    /// The option, or a warning that it cannot be had now.
    pub(crate) fn unless<T>(&mut self, is_impossible: bool, name: &str, option: Option<T>) -> Option<T> {
        if is_impossible && option.is_some() {
            self.warn(Warning::option_ignored(&self.vendor, name));
            return None;
        }
        option
    }

    /// A part of the history that the vendor does not take.
    pub(crate) fn left_out(&mut self, part: &Part) {
        let what = match part {
            Part::Media(_) => "media in a turn of the model",
            Part::ToolCall(_) => "a call that another vendor ran",
            Part::ToolResult(_) => "a tool result in a turn of the model",
            Part::Reasoning(_) => "reasoning in a turn of the user",
            _ => "a part of another vendor",
        };
        self.warn(Warning::new(
            "part_left_out",
            format!(
                "{} does not take {what}; it was left out of the history",
                self.vendor
            ),
        ));
    }

    /// What the doctor did to the history.
    pub(crate) fn history(&mut self, mended: &Mended<'_>) {
        for warning in mended.warnings() {
            self.warn(warning);
        }
    }

    /// Words of a schema that the vendor does not keep to, if there are any.
    pub(crate) fn weakened(&mut self, dropped: &[&str]) {
        if !dropped.is_empty() {
            self.warn(Warning::new(
                "schema_weakened",
                format!(
                    "{} does not keep to {} in a schema; check the answer",
                    self.vendor,
                    dropped.join(", ")
                ),
            ));
        }
    }
}

impl From<Warnings> for Vec<Warning> {
    fn from(warnings: Warnings) -> Self {
        warnings.told
    }
}

#[cfg(test)]
mod tests {
    use super::Warnings;
    use stepwell_core::Warning;

    #[test]
    fn what_is_possible_passes_and_what_is_not_is_told_once() {
        let mut warnings = Warnings::new("acme");
        assert_eq!(warnings.unless(false, "top_k", Some(4)), Some(4));
        assert_eq!(warnings.unless::<u8>(true, "top_k", None), None);
        for _ in 0..2 {
            assert_eq!(warnings.unless(true, "seed", Some(1)), None);
        }
        warnings.weakened(&[]);
        let told: Vec<Warning> = warnings.into();
        assert_eq!(told, [Warning::option_ignored("acme", "seed")]);
    }
}
