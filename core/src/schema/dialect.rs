//! [`Dialect`]: the part of JSON Schema that a vendor keeps to, as data.

use super::compile::{self, CompiledSchema};
use crate::Result;
use serde_json::Value;

/// The part of JSON Schema that a vendor keeps to.
///
/// ```
/// use serde_json::json;
/// use stepwell_core::{Dialect, SchemaChange};
/// let given = json!({ "type": "object", "properties": { "age": { "type": "integer", "minimum": 0 } } });
/// let compiled = Dialect::AnthropicStrict.compile(&given)?;
/// assert_eq!(compiled.value["properties"]["age"], json!({ "type": "integer" }));
/// assert_eq!(compiled.losses[0].to_string(), "/properties/age/minimum: `minimum` is not kept by the vendor");
/// assert_eq!(compiled.losses[0].change, SchemaChange::Dropped);
/// # Ok::<(), stepwell_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// The schema as it is.
    Plain,
    /// The schema as it is, but one object at the top: what vendors want of a tool's arguments they do not keep to
    /// by grammar.
    Arguments,
    /// OpenAI's answers with `strict`: every object closed, every property required, an optional one null where it is
    /// absent. <https://platform.openai.com/docs/guides/structured-outputs#supported-schemas>
    OpenAiStrict,
    /// The same for the arguments of a tool, where a default may stand.
    OpenAiStrictArguments,
    /// `strict` at servers that speak OpenAI's wire: the same keywords, no limits of size.
    CompatibleStrict,
    /// The same for the arguments of a tool.
    CompatibleStrictArguments,
    /// Anthropic's `output_config.format`: every object closed, no bounds, no recursion.
    /// <https://platform.claude.com/docs/en/build-with-claude/structured-outputs>
    AnthropicStrict,
    /// The same for the arguments of a tool.
    AnthropicStrictArguments,
    /// Gemini's `responseSchema` and `parameters`: a part of OpenAPI 3.0, without references.
    /// <https://ai.google.dev/api/caching#Schema>
    GeminiOpenApi,
    /// Gemini's `responseJsonSchema` and `parametersJsonSchema`.
    /// <https://ai.google.dev/api/generate-content#FIELDS.response_json_schema>
    GeminiJson,
    /// Ollama's `format`: the schema as it is; what its grammar does not keep to is told.
    Ollama,
}

/// How references are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refs {
    /// As `#` and `#/$defs/…`, with only these annotations beside them.
    Kept(&'static [&'static str]),
    /// As what they lead to. Recursion is cut below so many turns.
    Unrolled(usize),
}

/// What an optional property becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Optional {
    /// It stays optional.
    Kept,
    /// Required, and null where it is absent.
    Nullable,
}

/// How a schema has to be written.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // each is a fact about a vendor, and none excludes another
pub(super) struct Rules {
    /// Keywords that may stand; those of structure are written by the compiler where the others allow.
    pub(super) keywords: &'static [&'static str],
    pub(super) refs: Refs,
    pub(super) optional: Optional,
    /// Objects have `additionalProperties: false`.
    pub(super) closed: bool,
    /// A schema without constraints is refused.
    pub(super) typed: bool,
    /// The top has to be one object without alternatives. Otherwise alternatives there are run together, where it is
    /// a tool's arguments, or refused.
    pub(super) object_root: bool,
    pub(super) is_arguments: bool,
    /// OpenAPI 3.0: `nullable`, one type in capitals, alternatives of strings only in `enum`.
    pub(super) openapi: bool,
    /// `const` is written as an `enum` of one.
    pub(super) const_as_enum: bool,
    /// What an `enum` may hold beside strings.
    pub(super) enum_numbers: bool,
    pub(super) enum_others: bool,
    /// Formats of strings; all others are left out.
    pub(super) string_formats: &'static [&'static str],
    /// Formats of numbers are passed on.
    pub(super) number_formats: bool,
    /// `minItems` above this is lowered to it.
    pub(super) min_items: Option<u64>,
    /// No schema may contain itself.
    pub(super) no_recursion: bool,
    /// A recursive property may not be required.
    pub(super) optional_recursion: bool,
    pub(super) limits: Option<Limits>,
}

/// The vendor's bounds of size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) properties: usize,
    pub(super) levels: usize,
    /// Characters of names and enumerated words.
    pub(super) text: usize,
    pub(super) enum_values: usize,
    /// Characters of one enumeration that has more than 250 words.
    pub(super) large_enum_text: usize,
}

const FORMATS: &[&str] = &[
    "date-time",
    "time",
    "date",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "uuid",
];

const OPENAI: Rules = Rules {
    keywords: &[
        "$schema",
        "title",
        "description",
        "type",
        "enum",
        "const",
        "anyOf",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "pattern",
        "format",
        "multipleOf",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "minItems",
        "maxItems",
    ],
    refs: Refs::Kept(&[]),
    optional: Optional::Nullable,
    closed: true,
    typed: true,
    object_root: true,
    is_arguments: false,
    openapi: false,
    const_as_enum: false,
    enum_numbers: true,
    enum_others: false,
    string_formats: FORMATS,
    number_formats: true,
    min_items: None,
    no_recursion: false,
    optional_recursion: false,
    limits: Some(Limits {
        properties: 5_000,
        levels: 10,
        text: 120_000,
        enum_values: 1_000,
        large_enum_text: 15_000,
    }),
};

/// The same, with a `default`: recorded calls show that it is taken there.
const OPENAI_ARGUMENTS: &[&str] = &[
    "$schema",
    "title",
    "description",
    "default",
    "type",
    "enum",
    "const",
    "anyOf",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "pattern",
    "format",
    "multipleOf",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minItems",
    "maxItems",
];

const ANTHROPIC: Rules = Rules {
    keywords: &[
        "$schema",
        "title",
        "description",
        "default",
        "type",
        "enum",
        "const",
        "anyOf",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "minItems",
        "format",
        "pattern",
    ],
    refs: Refs::Kept(&["title", "description", "default"]),
    optional: Optional::Kept,
    enum_others: true,
    string_formats: &[
        "date-time",
        "time",
        "date",
        "duration",
        "email",
        "hostname",
        "uri",
        "ipv4",
        "ipv6",
        "uuid",
    ],
    number_formats: false,
    min_items: Some(1),
    no_recursion: true,
    object_root: false,
    limits: None,
    ..OPENAI
};

const OPENAPI: Rules = Rules {
    keywords: &[
        "title",
        "description",
        "default",
        "type",
        "enum",
        "anyOf",
        "properties",
        "required",
        "items",
        "format",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "pattern",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
    ],
    refs: Refs::Unrolled(2),
    optional: Optional::Kept,
    closed: false,
    typed: true,
    object_root: false,
    is_arguments: false,
    openapi: true,
    const_as_enum: true,
    enum_numbers: false,
    enum_others: false,
    string_formats: &["date-time"],
    number_formats: false, // int32, int64, float, double; others are refused
    min_items: None,
    no_recursion: false,
    optional_recursion: false,
    limits: None,
};

const GEMINI_JSON: Rules = Rules {
    keywords: &[
        "$schema",
        "title",
        "description",
        "default",
        "type",
        "enum",
        "anyOf",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "prefixItems",
        "format",
        "minimum",
        "maximum",
        "minItems",
        "maxItems",
    ],
    refs: Refs::Kept(&["description", "default"]),
    openapi: false,
    typed: false,
    enum_numbers: true,
    number_formats: true,
    string_formats: FORMATS,
    optional_recursion: true,
    ..OPENAPI
};

/// Keywords that the grammars of Ollama (those of llama.cpp) keep to.
const OLLAMA: &[&str] = &[
    "type",
    "enum",
    "const",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "prefixItems",
    "anyOf",
    "oneOf",
    "allOf",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "pattern",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "format",
    "$ref",
];

impl Dialect {
    pub(super) fn rules(self) -> Option<&'static Rules> {
        static OPENAI_RULES: Rules = OPENAI;
        static OPENAI_TOOL: Rules = Rules {
            keywords: OPENAI_ARGUMENTS,
            is_arguments: true,
            ..OPENAI
        };
        static COMPATIBLE: Rules = Rules {
            limits: None,
            ..OPENAI
        };
        static COMPATIBLE_TOOL: Rules = Rules {
            keywords: OPENAI_ARGUMENTS,
            is_arguments: true,
            limits: None,
            ..OPENAI
        };
        static ANTHROPIC_RULES: Rules = ANTHROPIC;
        static ANTHROPIC_TOOL: Rules = Rules {
            object_root: true,
            is_arguments: true,
            ..ANTHROPIC
        };
        static OPENAPI_RULES: Rules = OPENAPI;
        static GEMINI_RULES: Rules = GEMINI_JSON;
        match self {
            Self::Plain | Self::Arguments | Self::Ollama => None,
            Self::OpenAiStrict => Some(&OPENAI_RULES),
            Self::OpenAiStrictArguments => Some(&OPENAI_TOOL),
            Self::CompatibleStrict => Some(&COMPATIBLE),
            Self::CompatibleStrictArguments => Some(&COMPATIBLE_TOOL),
            Self::AnthropicStrict => Some(&ANTHROPIC_RULES),
            Self::AnthropicStrictArguments => Some(&ANTHROPIC_TOOL),
            Self::GeminiOpenApi => Some(&OPENAPI_RULES),
            Self::GeminiJson => Some(&GEMINI_RULES),
        }
    }

    /// Keywords that stand in the schema and are not kept, for a dialect that takes the schema as it is.
    pub(super) fn kept(self) -> Option<&'static [&'static str]> {
        (self == Self::Ollama).then_some(OLLAMA)
    }

    /// The schema in this dialect, with a report of what it says otherwise. Same in, same out, byte for byte.
    ///
    /// # Errors
    /// [`crate::Error::InvalidInput`] for what is no schema, or refers to another document or to nothing;
    /// [`crate::Error::LimitExceeded`] for what is too large, here or for the vendor;
    /// [`crate::Error::Unsupported`] for what the dialect cannot say: recursion where it is refused, a top that is no
    /// object where it has to be one.
    pub fn compile(self, given: &Value) -> Result<CompiledSchema> {
        compile::compile(given, self)
    }
}
