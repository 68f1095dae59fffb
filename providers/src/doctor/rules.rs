//! [`Rules`]: what a wire asks of a history, as data.

/// Where words of the program stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SystemPlace {
    /// Outside the turns: all of them come first, in their order.
    Top,
    /// One message, the first.
    First,
    /// Wherever they were said.
    InPlace,
}

/// What becomes of neighbouring turns of one role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Turns {
    /// They stay apart, and the wire takes them so.
    Separate,
    /// The encoder joins them, so that they are one turn on the wire.
    Joined,
    /// The wire wants user and assistant by turns: they are joined here.
    Alternating,
}

/// What becomes of a tool result whose call is not in the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OrphanResults {
    /// It is left out. What a tool says is data; as words of the user it would weigh more.
    Drop,
    /// It becomes words of the turn it stands in.
    AsText,
}

/// Letters of a call's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Alphabet {
    /// Any.
    Any,
    /// `a-z A-Z 0-9 _ -`.
    Word,
    /// `a-z A-Z 0-9`.
    Alphanumeric,
}

/// The form of call ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ids {
    /// The wire has none.
    None,
    /// So many bytes of this alphabet; every call has its own.
    Form {
        /// Fewest.
        min: usize,
        /// Most.
        max: usize,
        /// Of these.
        alphabet: Alphabet,
    },
}

/// The form of the names of tools that were called. A model may call one that it made up, and its name stays in the
/// history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Names {
    /// Any, but not none.
    Any,
    /// `a-z A-Z 0-9 _ -`.
    Form {
        /// Most bytes.
        max: usize,
        /// These too.
        more: &'static str,
    },
}

/// The form of a call's arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Arguments {
    /// A JSON object: anything else is put into one.
    Object,
    /// Text that need not be JSON.
    Text,
}

/// Whether reasoning goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReasoningRule {
    /// The wire takes none.
    Drop,
    /// That which carries this very model's token.
    Own,
    /// Any with text or an own token.
    Keep,
}

/// Whether the history may end with a turn of the model, for it to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Prefill {
    /// It may.
    Kept,
    /// It may, but not with blanks at its end.
    Trimmed,
    /// It may not: the user asks to go on.
    Refused,
}

/// What a wire asks of a history. Start from [`Rules::LENIENT`] and say what is stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(clippy::struct_excessive_bools)] // each is a fact about a wire, and none excludes another
pub struct Rules {
    /// Where words of the program stand.
    pub system: SystemPlace,
    /// Neighbouring turns of one role.
    pub turns: Turns,
    /// The wire has tools; where not, calls and results become words.
    pub has_tools: bool,
    /// Results come in the order of their calls.
    pub results_in_order: bool,
    /// Results carry the name of their tool.
    pub results_named: bool,
    /// A user may speak directly after results; where not, the model is made to say a word in between.
    pub user_after_results: bool,
    /// Results without a call.
    pub orphan_results: OrphanResults,
    /// The form of call ids.
    pub ids: Ids,
    /// The form of the names of tools.
    pub names: Names,
    /// The form of arguments.
    pub arguments: Arguments,
    /// Whether reasoning goes back.
    pub reasoning: ReasoningRule,
    /// Reasoning must have something behind it in its turn.
    pub reasoning_leads: bool,
    /// A turn may be reasoning alone.
    pub reasoning_alone: bool,
    /// A turn has room for the token of one thought: the last.
    pub one_reasoning_token: bool,
    /// Tokens on text and calls go back, where this very model made them.
    pub tokens: bool,
    /// Parts this version does not know go back to the vendor they came from, as do calls it ran itself.
    pub own_parts: bool,
    /// Results of the vendor's own tools stand in blocks of their own (`…_tool_result`) behind their calls.
    pub server_results: bool,
    /// Media may stand in a turn of the model.
    pub assistant_media: bool,
    /// Text may be all blanks.
    pub blank_text: bool,
    /// An empty text goes back where it carries an own token.
    pub empty_text: bool,
    /// The first turn may be the model's.
    pub assistant_first: bool,
    /// The last turn may be the model's.
    pub prefill: Prefill,
}

impl Rules {
    /// A wire that takes nearly everything: only calls and results have to be paired.
    pub const LENIENT: Self = Self {
        system: SystemPlace::InPlace,
        turns: Turns::Separate,
        has_tools: true,
        results_in_order: false,
        results_named: false,
        user_after_results: true,
        orphan_results: OrphanResults::Drop,
        ids: Ids::Form {
            min: 1,
            max: 64,
            alphabet: Alphabet::Any,
        },
        names: Names::Any,
        arguments: Arguments::Text,
        reasoning: ReasoningRule::Drop,
        reasoning_leads: false,
        reasoning_alone: true,
        one_reasoning_token: false,
        tokens: false,
        own_parts: false,
        server_results: false,
        assistant_media: false,
        blank_text: true,
        empty_text: false,
        assistant_first: true,
        prefill: Prefill::Kept,
    };
}
