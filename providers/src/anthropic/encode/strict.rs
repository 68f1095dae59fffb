//! [`Strict`]: how many schemas of one request the vendor keeps to by grammar, and how large they may be together.

use stepwell_core::SchemaSize;

/// Most tools with `strict`.
const TOOLS: usize = 20;
/// Most optional parameters, over all strict schemas.
const OPTIONAL: usize = 24;
/// Most parameters with alternatives, over all strict schemas.
const UNIONS: usize = 16;

/// What the strict schemas of one request take so far.
#[derive(Debug, Default)]
pub(super) struct Strict {
    tools: usize,
    size: SchemaSize,
}

impl Strict {
    /// Whether another tool's schema fits; if so it counts.
    pub(super) fn takes_tool(&mut self, size: &SchemaSize) -> bool {
        self.tools < TOOLS && self.takes(size) && {
            self.tools += 1;
            true
        }
    }

    /// Whether another schema fits; if so it counts.
    pub(super) fn takes(&mut self, size: &SchemaSize) -> bool {
        let mut sum = self.size;
        sum.add(size);
        let fits = sum.optional_properties <= OPTIONAL && sum.union_properties <= UNIONS;
        if fits {
            self.size = sum;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::Strict;
    use serde_json::{Map, Value, json};
    use stepwell_core::{Dialect, SchemaSize};

    fn size(optional: usize, unions: usize) -> SchemaSize {
        let mut properties = Map::new();
        let mut required: Vec<String> = Vec::new();
        for n in 0..optional {
            properties.insert(format!("o{n}"), json!({ "type": "string" }));
        }
        for n in 0..unions {
            properties.insert(format!("u{n}"), json!({ "type": ["string", "null"] }));
            required.push(format!("u{n}"));
        }
        let given =
            json!({ "type": "object", "properties": Value::Object(properties), "required": required });
        Dialect::AnthropicStrictArguments
            .compile(&given)
            .expect("compiles")
            .size
    }

    #[test]
    fn twenty_tools_twenty_four_optional_and_sixteen_unions_fit_a_request_and_no_more() {
        let mut strict = Strict::default();
        assert!((0..20).all(|_| strict.takes_tool(&size(0, 0))));
        assert!(!strict.takes_tool(&size(0, 0)));
        let mut strict = Strict::default();
        assert!(!strict.takes_tool(&size(25, 0)));
        assert!(strict.takes_tool(&size(20, 0)) && strict.takes(&size(4, 16)));
        assert!(!strict.takes_tool(&size(1, 0)) && !strict.takes_tool(&size(0, 1)));
        assert!(strict.takes_tool(&size(0, 0)));
    }
}
