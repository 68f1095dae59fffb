//! What every store here holds to: limits on what comes in, cursors, the lease rule, the clock.

use serde_json::Value;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use stepwell_core::{
    Error, Message, Result, Usage,
    store::{Conversation, ConversationUpdate, Lease, PageRequest, RunAppend, UsageRow, check_name},
};

/// Largest record, message or cached value, in bytes.
const MAX_BODY: usize = 64 << 20;
/// Most records of one append.
const MAX_RECORDS: usize = 10_000;
/// Largest prompt, in bytes.
const MAX_PROMPT: usize = 4 << 20;
/// Longest label that is not a key (purpose, model, reason …), in bytes.
const MAX_LABEL: usize = 4_096;
/// Deepest JSON that is written: readers stop at 128 levels, and the row around it takes some.
const MAX_DEPTH: usize = 100;
/// Largest token count or price of one call: 32,000 of them still add up in 63 bits.
const MAX_FIGURE: u64 = 1 << 48;
/// The last moment of the year 9999.
const MAX_MS: u64 = 253_402_300_799_999;
/// Highest number of a record or message: the SQLite key holds the number in 32 bits.
pub(crate) const MAX_SEQ: u64 = u32::MAX as u64;

/// The store's clock, milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(MAX_MS))
}

/// The moment so long after `now`.
pub(crate) fn until(now: u64, time: Duration) -> u64 {
    let time = u64::try_from(time.as_millis()).unwrap_or(MAX_MS);
    now.saturating_add(time).min(MAX_MS)
}

pub(crate) fn check_time(ms: u64) -> Result<()> {
    if ms > MAX_MS {
        return Err(Error::invalid(
            "time",
            "give milliseconds since 1970, before the year 10000",
        ));
    }
    Ok(())
}

pub(crate) fn check_label(what: &str, label: &str) -> Result<()> {
    if label.len() > MAX_LABEL {
        return Err(over(what, &format!("{MAX_LABEL} bytes")));
    }
    Ok(())
}

pub(crate) fn check_value(what: &str, len: usize) -> Result<()> {
    if len > MAX_BODY {
        return Err(over(what, &format!("{} MiB", MAX_BODY >> 20)));
    }
    Ok(())
}

pub(crate) fn check_new_prompt(key: &str, body: &str, note: Option<&str>, now_ms: u64) -> Result<()> {
    check_name("prompt key", key)?;
    check_time(now_ms)?;
    check_label("the note", note.unwrap_or_default())?;
    if body.len() > MAX_PROMPT {
        return Err(over("the prompt", &format!("{} MiB", MAX_PROMPT >> 20)));
    }
    Ok(())
}

pub(crate) fn check_conversation(conversation: &Conversation) -> Result<()> {
    check_name("conversation id", &conversation.id)?;
    check_time(conversation.created_ms)?;
    check_time(conversation.updated_ms)?;
    check_label("the title", conversation.title.as_deref().unwrap_or_default())?;
    check_label(
        "the reason of the lock",
        conversation.locked.as_deref().unwrap_or_default(),
    )?;
    metadata_json(&conversation.metadata).map(drop)
}

pub(crate) fn check_append(append: &RunAppend) -> Result<()> {
    check_name("run id", &append.run_id)?;
    if append.after == 0 {
        check_name("graph", &append.graph)?;
        if append.records.is_empty() {
            return Err(Error::invalid("records", "the first append needs a record"));
        }
    }
    check_added(append)
}

/// The part that holds for records that follow others.
pub(crate) fn check_added(append: &RunAppend) -> Result<()> {
    if append.records.len() > MAX_RECORDS {
        return Err(over("the append", &format!("{MAX_RECORDS} records")));
    }
    if append.after.saturating_add(append.records.len() as u64) > MAX_SEQ {
        // Such a number was never given, so nobody can have read it.
        return Err(conflict_run());
    }
    for record in &append.records {
        check_value("a record", record.body.len())?;
        check_time(record.at_ms)?;
    }
    Ok(())
}

pub(crate) fn check_usage(row: &UsageRow) -> Result<()> {
    check_name("usage id", &row.id)?;
    check_time(row.at_ms)?;
    for (what, label) in [
        ("purpose", Some(&row.purpose)),
        ("provider", Some(&row.provider)),
        ("model", Some(&row.model)),
        ("run id", row.run_id.as_ref()),
        ("actor", row.actor.as_ref()),
    ] {
        check_label(what, label.map_or("", String::as_str))?;
    }
    let Usage {
        input_tokens,
        cache_read_tokens,
        cache_write_tokens,
        cache_write_1h_tokens,
        output_tokens,
        reasoning_tokens,
        ..
    } = row.usage;
    let figures = [
        input_tokens,
        cache_read_tokens,
        cache_write_tokens,
        cache_write_1h_tokens,
        output_tokens,
        reasoning_tokens,
        row.cost.map(|cost| cost.micro_usd),
    ];
    if figures.into_iter().flatten().any(|figure| figure > MAX_FIGURE) {
        return Err(over("a figure of one call", "2^48"));
    }
    Ok(())
}

fn over(what: &str, limit: &str) -> Error {
    Error::LimitExceeded {
        what: what.to_owned(),
        limit: limit.to_owned(),
    }
}

pub(crate) fn conflict_run() -> Error {
    Error::Conflict {
        what: "the run".to_owned(),
    }
}

pub(crate) fn conflict_conversation() -> Error {
    Error::Conflict {
        what: "the conversation".to_owned(),
    }
}

pub(crate) fn conflict_message() -> Error {
    Error::Conflict {
        what: "the message".to_owned(),
    }
}

pub(crate) fn not_found(what: &str, name: impl ToString) -> Error {
    Error::NotFound {
        what: what.to_owned(),
        name: name.to_string(),
        hint: "check the id and the tenant".to_owned(),
    }
}

pub(crate) fn locked_conversation(reason: &str) -> Error {
    Error::Unsupported {
        who: "the conversation".to_owned(),
        what: format!("a message while it is locked ({reason})"),
        hint: "open it first, or begin another".to_owned(),
    }
}

/// A message as JSON that is sure to read back.
pub(crate) fn message_json(message: &Message) -> Result<String> {
    let text = serde_json::to_string(message)
        .map_err(|_| Error::invalid("message", "it cannot be written as JSON"))?;
    check_json("message", &text)?;
    Ok(text)
}

/// Metadata as JSON that is sure to read back.
pub(crate) fn metadata_json(metadata: &serde_json::Map<String, Value>) -> Result<String> {
    let text = serde_json::to_string(metadata)
        .map_err(|_| Error::invalid("metadata", "it cannot be written as JSON"))?;
    check_json("metadata", &text)?;
    Ok(text)
}

fn check_json(what: &str, text: &str) -> Result<()> {
    check_value(what, text.len())?;
    let (mut depth, mut is_text, mut is_escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            b'[' | b'{' if !is_text => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(over(what, &format!("{MAX_DEPTH} levels of JSON")));
                }
            }
            b']' | b'}' if !is_text => depth -= 1,
            _ => {}
        }
    }
    Ok(())
}

/// Applies an update; the version counts up when anything was asked for.
pub(crate) fn apply_update(
    conversation: &mut Conversation,
    update: ConversationUpdate,
    now_ms: u64,
) -> Result<()> {
    check_time(now_ms)?;
    if update
        .expected_version
        .is_some_and(|version| version != conversation.version)
    {
        return Err(conflict_conversation());
    }
    if update.title.is_none() && update.locked.is_none() && update.metadata.is_none() {
        return Ok(());
    }
    if let Some(title) = update.title {
        check_label("the title", title.as_deref().unwrap_or_default())?;
        conversation.title = title;
    }
    if let Some(locked) = update.locked {
        check_label("the reason of the lock", locked.as_deref().unwrap_or_default())?;
        conversation.locked = locked;
    }
    for (key, value) in update.metadata.into_iter().flatten() {
        if value.is_null() {
            conversation.metadata.shift_remove(&key);
        } else {
            conversation.metadata.insert(key, value);
        }
    }
    conversation.version += 1;
    conversation.updated_ms = conversation.updated_ms.max(now_ms);
    Ok(())
}

/// Who may write a run, and until when.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holder {
    pub(crate) owner: Option<String>,
    pub(crate) fence: u64,
    pub(crate) until_ms: u64,
}

impl Holder {
    /// The one rule of leases. A renewal keeps its fence, also after its time, so long as nobody took over; a
    /// fence that somebody outdid gets nothing, for its owner has to read the run again first.
    pub(crate) fn claim(
        &mut self,
        run_id: &str,
        owner: &str,
        fence: Option<u64>,
        now: u64,
        time: Duration,
    ) -> Result<Lease> {
        let is_owner = self.owner.as_deref() == Some(owner);
        let lasts = self.until_ms > now;
        if lasts && !is_owner {
            return Err(Error::Locked {
                path: format!("run {run_id}").into(),
            });
        }
        match fence {
            Some(fence) if fence != self.fence || !is_owner => return Err(conflict_run()),
            Some(_) => {}
            None => {
                self.fence += 1;
                self.owner = Some(owner.to_owned());
            }
        }
        self.until_ms = until(now, time);
        Ok(Lease::new(self.fence, self.until_ms))
    }
}

/// How many entries a page has.
pub(crate) fn page_limit(page: &PageRequest) -> usize {
    page.limit.clamp(1, 1_000)
}

/// A place in a list: a number, and a name among equal numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) number: u64,
    pub(crate) name: String,
}

impl Cursor {
    pub(crate) fn write(number: u64, name: &str) -> String {
        format!("{number}:{name}")
    }

    pub(crate) fn read(page: &PageRequest) -> Result<Option<Self>> {
        let Some(text) = &page.after else { return Ok(None) };
        text.split_once(':')
            .and_then(|(number, name)| {
                let number = number.parse().ok().filter(|number| *number <= MAX_MS)?;
                let name = name.to_owned();
                Some(Some(Self { number, name }))
            })
            .ok_or_else(|| Error::invalid("page", "pass on `next` of the page before as it came"))
    }
}

/// The day (UTC) of a moment, `YYYY-MM-DD`. Years are counted from March, so that a leap day is the last of its
/// year and months have a fixed rhythm (153 days in each five).
pub(crate) fn day(ms: u64) -> String {
    let days = ms / 86_400_000 + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let (month, carry) = if march_month < 10 {
        (march_month + 3, 0)
    } else {
        (march_month - 9, 1)
    };
    format!("{:04}-{month:02}-{day:02}", era * 400 + year_of_era + carry)
}

#[cfg(test)]
mod tests {
    use super::{Cursor, Holder, check_json, day};
    use std::time::Duration;
    use stepwell_core::store::PageRequest;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (ms, text) in [
            (0, "1970-01-01"),
            (951_782_400_000, "2000-02-29"),
            (1_709_164_800_000, "2024-02-29"),
            (4_107_542_399_999, "2100-02-28"),
            (4_107_542_400_000, "2100-03-01"),
            (253_402_300_799_999, "9999-12-31"),
        ] {
            assert_eq!(day(ms), text);
        }
    }

    #[test]
    fn json_too_deep_to_read_back_is_refused_and_brackets_in_text_do_not_count() {
        let text = format!("\"{}\\\"[\"", "[".repeat(500));
        assert!(check_json("message", &text).is_ok());
        let deep = format!("{}{}", "[".repeat(101), "]".repeat(101));
        assert_eq!(
            check_json("message", &deep).expect_err("too deep").code(),
            "limit_exceeded"
        );
    }

    #[test]
    fn a_cursor_reads_back_whatever_the_name_holds_and_an_invented_one_is_refused() {
        let page = PageRequest::after(Cursor::write(7, "a:b:ü"), 10);
        let cursor = Cursor::read(&page).expect("reads").expect("there");
        assert_eq!((cursor.number, cursor.name.as_str()), (7, "a:b:ü"));
        for bad in ["", "x", "-1:a", "99999999999999999999:a"] {
            assert!(Cursor::read(&PageRequest::after(bad, 10)).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_outdone_fence_gets_nothing_even_when_the_newer_lease_is_over() {
        let mut holder = Holder::default();
        let minute = Duration::from_mins(1);
        assert_eq!(holder.claim("r", "a", None, 0, minute).expect("free").fence, 1);
        assert_eq!(
            holder
                .claim("r", "b", None, 59_999, minute)
                .expect_err("held")
                .code(),
            "locked"
        );
        assert_eq!(
            holder.claim("r", "b", None, 60_000, minute).expect("over").fence,
            2
        );
        assert_eq!(
            holder
                .claim("r", "a", Some(1), 500_000, minute)
                .expect_err("outdone")
                .code(),
            "conflict"
        );
        assert_eq!(
            holder
                .claim("r", "b", Some(2), 500_000, minute)
                .expect("own")
                .fence,
            2
        );
    }
}
