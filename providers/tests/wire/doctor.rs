//! Any history is made valid for any wire: every recorded conversation is carried to every wire, whole, cut as by a
//! crash, and beside histories of pure nonsense, and each body is held to the law of its wire.

use crate::{
    conversations::{self, Conversation},
    frame::random::Random,
    histories,
    laws::Law,
    recorded::is_long,
    sink::Sink,
    targets::{self, Target},
    tokens,
};
use serde_json::Value;
use std::collections::BTreeMap;
use stepwell_core::{ChatRequest, Error, Message, Part, ReasoningEffort, Role, ToolResult};
use stepwell_providers::doctor::examine;

/// What was tried, and what was found against a law.
#[derive(Default)]
struct Tally {
    /// Target → carried, faulty.
    carried: BTreeMap<String, [usize; 2]>,
    /// Vendor and API it came from → carried, faulty.
    from: BTreeMap<String, [usize; 2]>,
    without_media: usize,
    seals: usize,
    faults: Vec<String>,
}

impl Tally {
    fn add(&mut self, from: &str, what: &str, target: &Target, faults: Vec<String>) {
        let name = target.name();
        for count in [
            self.carried.entry(name.clone()).or_default(),
            self.from.entry(from.to_owned()).or_default(),
        ] {
            count[0] += 1;
            count[1] += usize::from(!faults.is_empty());
        }
        self.faults.extend(
            faults
                .into_iter()
                .map(|fault| format!("{what} → {name}: {fault}")),
        );
    }

    fn print(&self) {
        for (title, rows) in [("to", &self.carried), ("from", &self.from)] {
            for (name, [count, faulty]) in rows {
                println!("{title:<5} {name:<44} {count:>6} carried, {faulty} faulty");
            }
        }
        println!(
            "{} without their media, which the target refuses; {} seals given back to their makers",
            self.without_media, self.seals
        );
    }

    fn assert_none(&self) {
        self.print();
        // One example of each kind, and how often it is met.
        let mut kinds: BTreeMap<String, (usize, &str)> = BTreeMap::new();
        for fault in &self.faults {
            let told = fault.split_once(" → ").map_or(fault.as_str(), |(_, told)| told);
            let kind: String = told.chars().filter(|c| !c.is_ascii_digit()).take(90).collect();
            kinds.entry(kind).or_insert((0, fault)).0 += 1;
        }
        for (count, example) in kinds.values() {
            println!("{count:>6} x {}", example.chars().take(1500).collect::<String>());
        }
        assert!(self.faults.is_empty(), "{} faults", self.faults.len());
    }
}

/// The body that a target sends for a request; what it cannot take of media is left out of the request. `None` where
/// there is nothing to send.
async fn sent(
    target: &Target,
    request: &mut ChatRequest,
    sink: &Sink,
    tally: &mut Tally,
) -> Result<Option<Vec<u8>>, String> {
    sink.take();
    for _ in 0..2 {
        let error = target
            .model
            .chat(request.clone())
            .await
            .expect_err("it is refused");
        if let Some(body) = sink.take().pop() {
            return Ok(Some(body));
        }
        match error {
            Error::Unsupported { .. } if take_media(&mut request.messages) => tally.without_media += 1,
            Error::InvalidInput { what, .. } if what == "messages" => return Ok(None),
            error => return Err(format!("not sent: {error}")),
        }
    }
    Err("not sent, though it has no media".to_owned())
}

/// Takes media out of a history; whether there were any.
fn take_media(messages: &mut [Message]) -> bool {
    fn clean(parts: &mut Vec<Part>) -> bool {
        let count = parts.len();
        parts.retain(|part| !matches!(part, Part::Media(_)));
        let mut had_any = parts.len() < count;
        for part in parts {
            if let Part::ToolResult(ToolResult { parts, .. }) = part {
                had_any |= clean(parts);
            }
        }
        had_any
    }
    let mut had_any = false;
    for message in messages {
        had_any |= clean(&mut message.parts);
    }
    had_any
}

/// Carries one history to one target, and says what is wrong there.
async fn carry(
    target: &Target,
    provider: &str,
    messages: &[Message],
    request: &ChatRequest,
    sink: &Sink,
    tally: &mut Tally,
) -> Vec<String> {
    let mut faults = Vec::new();
    let mut asked = request.clone();
    asked.messages = messages.to_vec();
    faults.extend(unsteady(&target.name(), messages));
    let body = match sent(target, &mut asked, sink, tally).await {
        Ok(body) => body,
        Err(fault) => return vec![fault],
    };
    let mended = examine(&target.name(), &asked.messages).expect("a vendor with rules");
    let Some(body) = body else {
        let is_empty = mended.messages.iter().all(|message| {
            matches!(message.role, Role::System | Role::Developer)
                || message
                    .parts
                    .iter()
                    .all(|part| matches!(part, Part::Data(_) | Part::Media(_) | Part::Reasoning(_)))
        });
        if !is_empty {
            faults.push("nothing is sent, though there is something to answer".to_owned());
        }
        return faults;
    };
    let value: Value = serde_json::from_slice(&body).expect("JSON");
    faults.extend(target.law.faults(&value));

    faults.extend(foreign(target, messages, &body));
    // What is mended is sent as the same bytes as what was not.
    let mut again = request.clone();
    again.messages = mended.messages.to_vec();
    match sent(target, &mut again, sink, &mut Tally::default()).await {
        Ok(Some(same)) if same == body => {}
        Ok(_) => faults.push("the mended history gives other bytes".to_owned()),
        Err(fault) => faults.push(fault),
    }
    if target.model.info().provider == provider {
        tally.seals += own(target, &mended.messages, &value, &mut faults);
    }
    faults
}

/// Mending what was mended changes nothing, and what needs nothing is not copied.
fn unsteady(name: &str, messages: &[Message]) -> Vec<String> {
    let mended = examine(name, messages).expect("a vendor with rules");
    let again = examine(name, &mended.messages).expect("a vendor with rules");
    let mut faults = Vec::new();
    if !again.changes.is_empty() {
        faults.push(format!("mended twice, it changes again: {:?}", again.changes));
    } else if again.messages != mended.messages {
        faults.push("mended twice, it is another without a word".to_owned());
    } else if !matches!(again.messages, std::borrow::Cow::Borrowed(_)) {
        faults.push("a sound history is copied".to_owned());
    }
    faults
}

/// Seals of other models in a body.
fn foreign(target: &Target, messages: &[Message], body: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(body);
    let mut faults = Vec::new();
    for (_, token) in tokens::of(messages) {
        if target.is(&token.provider, &token.model) {
            continue;
        }
        // A vendor's other model takes back what the vendor ran itself, without its signature.
        for seal in tokens::seals(&token.value) {
            let quoted = serde_json::to_string(seal).expect("a string");
            if text.contains(&quoted[1..quoted.len() - 1]) {
                faults.push(format!("a seal of {}/{} is sent", token.provider, token.model));
            }
        }
    }
    faults
}

/// Seals of this very model that the mended history has: each stands in the body, byte for byte.
fn own(target: &Target, mended: &[Message], body: &Value, faults: &mut Vec<String>) -> usize {
    let mut count = 0;
    let turns: Vec<Message> = mended
        .iter()
        .filter(|message| message.role == Role::Assistant)
        .cloned()
        .collect();
    for (part, token) in tokens::of(&turns) {
        if !target.is(&token.provider, &token.model) {
            continue;
        }
        let wanted = match (&target.law, part) {
            // Whole items, and whole strings.
            (Law::Responses { .. } | Law::Messages { .. } | Law::Contents { .. }, Part::Reasoning(_)) => {
                &token.value
            }
            (Law::Contents { .. }, _) if token.value.is_string() => &token.value,
            // The two vendors that seal over this wire: OpenRouter in a list, Gemini under its name.
            (Law::Completions(_), _)
                if token.provider == "openrouter" && token.value.is_array()
                    || token.value.get("google").is_some() =>
            {
                &token.value
            }
            _ => continue,
        };
        count += 1;
        if !tokens::holds(body, wanted) {
            faults.push("an own seal is not sent back as it came".to_owned());
        }
    }
    count
}

/// What a conversation is carried with.
fn request_of(conversation: &Conversation) -> ChatRequest {
    let mut request = ChatRequest::default();
    request.reasoning.effort = Some(ReasoningEffort::Medium);
    request.max_output_tokens = conversation.request.max_output_tokens.filter(|most| *most > 2048);
    request
}

#[tokio::test]
async fn every_recorded_conversation_is_valid_on_every_other_wire() {
    let conversations = conversations::all().await;
    let sink = Sink::start().await;
    let targets = targets::all(&sink.url);
    let mut tally = Tally::default();
    let mut random = Random::of("pairs");
    for conversation in &conversations {
        let from = format!("{} {}", conversation.provider, conversation.api);
        let request = request_of(conversation);
        let own = targets::target(&conversation.provider, &conversation.model, &sink.url);
        // As it ended, and as a person goes on.
        let mut goes_on = conversation.messages.clone();
        goes_on.push(Message::user("And then?"));
        let chosen = targets::chosen(&targets, 7, &mut random);
        for messages in [&conversation.messages, &goes_on] {
            for target in chosen.iter().copied().chain(&own) {
                let faults = carry(
                    target,
                    &conversation.provider,
                    messages,
                    &request,
                    &sink,
                    &mut tally,
                )
                .await;
                tally.add(&from, &conversation.id, target, faults);
            }
        }
    }
    if !conversations.is_empty() {
        println!(
            "{} conversations, {} targets beside their own",
            conversations.len(),
            targets.len()
        );
        tally.assert_none();
        assert!(tally.seals > 50, "hardly a seal was met");
    }
}

#[tokio::test]
async fn a_history_cut_by_a_crash_at_any_message_or_part_is_valid_on_every_wire() {
    let conversations = conversations::all().await;
    let sink = Sink::start().await;
    let targets = targets::all(&sink.url);
    let mut tally = Tally::default();
    let mut random = Random::of("crashes");
    for conversation in &conversations {
        let from = format!("{} {}", conversation.provider, conversation.api);
        let request = request_of(conversation);
        let own = targets::target(&conversation.provider, &conversation.model, &sink.url);
        for mut cut in histories::cuts(&conversation.messages) {
            if random.below(2) == 0 {
                cut.push(Message::user("Where were we?"));
            }
            for target in targets::chosen(&targets, 2, &mut random).into_iter().chain(&own) {
                let faults = carry(target, &conversation.provider, &cut, &request, &sink, &mut tally).await;
                tally.add(&from, &conversation.id, target, faults);
            }
        }
    }
    if !conversations.is_empty() {
        tally.assert_none();
    }
}

#[tokio::test]
async fn nonsense_made_by_hand_is_valid_on_every_wire() {
    let sink = Sink::start().await;
    let targets = targets::all(&sink.url);
    let makers: Vec<(String, String)> = targets
        .iter()
        .map(|target| {
            let info = target.model.info();
            (info.provider.clone(), info.model.clone())
        })
        .collect();
    let mut tally = Tally::default();
    let rounds = if is_long() { 4000 } else { 250 };
    for round in 0..rounds {
        let mut random = Random::of(&format!("nonsense {round}"));
        let messages = histories::nonsense(&mut random, &makers);
        for target in &targets {
            let provider = target.model.info().provider.clone();
            let request = ChatRequest::default();
            let faults = carry(target, &provider, &messages, &request, &sink, &mut tally).await;
            tally.add("nonsense", &format!("nonsense {round}"), target, faults);
        }
    }
    tally.assert_none();
}
