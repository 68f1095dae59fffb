//! [`Quirks`]: how a server of the Chat Completions wire differs from OpenAI's own, as data.
//!
//! Only what has to be known before a request is sent, or cannot be seen in an answer, stands here. The decoder
//! takes every form of answer that any of the vendors sends: reasoning in four places, calls without an index,
//! usage in three places, errors in six forms.

use serde::Deserialize;

use crate::structured::Means;
use stepwell_core::{Dialect, ModelInfo};

/// The field that bounds the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TokenLimit {
    /// `max_tokens`
    MaxTokens,
    /// `max_completion_tokens`
    MaxCompletionTokens,
}

/// What of `stream_options` a server takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StreamOptions {
    /// `include_usage` and `include_obfuscation`.
    Full,
    /// `include_usage`.
    Usage,
    /// Nothing: it tells its usage unasked, and refuses the field.
    Refused,
}

/// The tightest form of answer that a server keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Formats {
    /// `json_schema`, and `json_object`.
    JsonSchema,
    /// `json_object` alone: a schema is asked for as any object, with a warning.
    JsonObject,
    /// Words: anything else is left out with a warning.
    Words,
}

/// How a call is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ForcedCall {
    /// At least one as `required`, a certain one by name.
    Required,
    /// At least one as `any`, a certain one by name.
    Any,
    /// At least one as `required`; a name would be ignored in silence, so it is refused here.
    Unnamed,
    /// As `Required`, but never while the model thinks.
    NotWhileThinking,
}

/// How a model is told to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EffortField {
    /// `reasoning_effort`: `none`, `minimal` … `xhigh`.
    Effort,
    /// `reasoning_effort`: `none`, `low`, `medium`, `high`.
    PlainEffort,
    /// `reasoning: { effort, max_tokens }`
    Object,
    /// `thinking: { type }` beside `reasoning_effort`.
    Thinking,
    /// It cannot be told.
    Ignored,
}

/// Where reasoning of earlier turns goes when it is sent back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReasoningField {
    /// `reasoning_content`
    Content,
    /// `reasoning`
    Plain,
    /// `reasoning_details`, as it came: it carries signatures. Without any, `reasoning`.
    Details,
    /// Pieces of type `thinking` inside `content`.
    Pieces,
    /// `extra_content`, as it came: it carries the signature of the thought.
    ExtraContent,
}

/// Which reasoning of earlier turns is sent back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReasoningBack {
    /// None.
    Never,
    /// That since the person last spoke: between a call and the answer to its result.
    InToolLoop(ReasoningField),
    /// All.
    Always(ReasoningField),
}

/// Whether the last turn may be the model's, for it to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Prefill {
    /// As it is.
    Plain,
    /// Marked with `prefix: true`.
    Flagged,
    /// It may not: the user asks to go on.
    Refused,
}

/// How PDFs are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Documents {
    /// `file: { file_data }`
    File,
    /// `document_url`
    DocumentUrl,
    /// Not at all.
    Refused,
}

/// The field for answers that repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SeedField {
    /// `seed`
    Seed,
    /// `random_seed`
    RandomSeed,
    /// There is none.
    Ignored,
}

/// The form of call ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CallIds {
    /// Any, up to 64 bytes.
    Any,
    /// Nine letters and digits.
    NineAlphanumerics,
}

macro_rules! quirks {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $usual:expr;)+) => {
        /// How a server of the Chat Completions wire differs from OpenAI's own. Start from
        /// [`Quirks::default`], which suits most servers, and say what is different.
        ///
        /// ```
        /// use stepwell_providers::quirks::{Quirks, TokenLimit};
        /// let quirks = Quirks::default().token_limit(TokenLimit::MaxCompletionTokens).images(false);
        /// assert!(!quirks.images);
        /// // The same from a settings file:
        /// let read: Quirks = serde_json::from_str(r#"{ "token_limit": "max_completion_tokens", "images": false }"#)?;
        /// assert_eq!(read, quirks);
        /// # Ok::<(), serde_json::Error>(())
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        #[non_exhaustive]
        #[allow(clippy::struct_excessive_bools)] // each is a fact about a server, and none excludes another
        pub struct Quirks {
            $($(#[doc = $doc])+ pub $name: $type,)+
        }

        impl Quirks {
            /// What suits most servers.
            pub(crate) const USUAL: Self = Self { $($name: $usual,)+ };

            $($(#[doc = $doc])+
            pub const fn $name(mut self, $name: $type) -> Self {
                self.$name = $name;
                self
            })+
        }
    };
}

quirks! {
    /// The field that bounds the answer.
    token_limit: TokenLimit = TokenLimit::MaxTokens;
    /// What of `stream_options` is taken.
    stream_options: StreamOptions = StreamOptions::Usage;
    /// Whether there is a role `developer`; where not, its words are sent as `system`.
    developer_role: bool = false;
    /// Whether a schema may be sent as `strict`; where not, it is sent as it is.
    strict_schemas: bool = true;
    /// The tightest form of answer.
    formats: Formats = Formats::JsonSchema;
    /// Whether it is kept to also where the model may call tools.
    format_beside_tools: bool = true;
    /// Whether there are tools at all; where not, a request with tools is refused.
    tools: bool = true;
    /// How a call is asked for.
    forced_call: ForcedCall = ForcedCall::Required;
    /// Whether `parallel_tool_calls` is taken.
    parallel_tool_calls: bool = true;
    /// The form of call ids.
    call_ids: CallIds = CallIds::Any;
    /// How a model is told to think.
    effort: EffortField = EffortField::PlainEffort;
    /// Whether names such as `gpt-4o` and `o3` tell who reasons, and a model that does takes no sampling options.
    openai_names: bool = false;
    /// Which reasoning of earlier turns is sent back, and where.
    reasoning_back: ReasoningBack = ReasoningBack::Never;
    /// Whether a model that thinks wants every turn of its own with its reasoning, if only an empty one. A turn
    /// that another model made, or one from a time without thinking, is refused without.
    reasoning_required: bool = false;
    /// Whether words of the program go as one message, the first of all: the templates of many open models refuse
    /// any other.
    one_system: bool = false;
    /// Whether user and assistant have to come by turns, the user first: neighbours are joined then.
    alternates: bool = false;
    /// Whether a user may speak directly after results; where not, the model is made to say a word in between.
    user_after_results: bool = true;
    /// Whether the last turn may be the model's.
    prefill: Prefill = Prefill::Plain;
    /// Whether images are taken.
    images: bool = true;
    /// How PDFs are sent.
    documents: Documents = Documents::Refused;
    /// Whether sound is taken.
    audio: bool = false;
    /// Whether a tool result may carry media; where not, they follow in a turn of the user.
    result_media: bool = false;
    /// The field for answers that repeat.
    seed: SeedField = SeedField::Seed;
    /// Whether `top_k` is taken.
    top_k: bool = false;
    /// Whether `metadata` is taken (together with `store`).
    metadata: bool = false;
    /// Whether status 500 with a JSON error is a fault of the request: such servers mean it so, and to repeat the
    /// request would not help.
    final_500: bool = false;
    /// Whether the part of `total_tokens` that is neither input nor output is reasoning.
    hidden_reasoning: bool = false;
}

impl Quirks {
    /// OpenAI's own.
    pub(crate) const OPENAI: Self = Self {
        token_limit: TokenLimit::MaxCompletionTokens,
        stream_options: StreamOptions::Full,
        developer_role: true,
        effort: EffortField::Effort,
        openai_names: true,
        documents: Documents::File,
        audio: true,
        metadata: true,
        ..Self::USUAL
    };
}

impl Quirks {
    /// What such a server can for the shape of an answer.
    pub(crate) fn means(&self, info: &ModelInfo) -> Means {
        let (strict, _) = crate::openai::schema::strict(self.openai_names);
        let dialect = if self.strict_schemas {
            strict
        } else {
            Dialect::Plain
        };
        let can = self.formats == Formats::JsonSchema && info.abilities.structured_output != Some(false);
        Means {
            native: can.then_some(dialect),
            is_lenient: true,
            beside_tools: self.format_beside_tools,
            object_root: true,
            json_mode: self.formats != Formats::Words,
            tools: self.tools && info.abilities.tools != Some(false),
            forces_calls: self.forced_call != ForcedCall::NotWhileThinking,
            strict_tools: self.strict_schemas && self.openai_names,
        }
    }
}

impl Default for Quirks {
    fn default() -> Self {
        Self::USUAL
    }
}
