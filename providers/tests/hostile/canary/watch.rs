//! Everything that is shown, logged or put into a span, searched as it comes.

use super::slots::{PROMPTS, SECRETS};
use std::{
    collections::BTreeSet,
    fmt::{Debug, Write as _},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

static TEXTS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);
static FOUND: Mutex<Vec<String>> = Mutex::new(Vec::new());
/// Who was heard.
static PLACES: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Searches a text. Of a finding the place and the canary are kept, and a piece around it.
pub(super) fn see(place: &str, text: &str) {
    TEXTS.fetch_add(1, Ordering::Relaxed);
    BYTES.fetch_add(text.len(), Ordering::Relaxed);
    let mut places = PLACES.lock().expect("no panic inside");
    if !places.contains(place) {
        places.insert(place.to_owned());
    }
    drop(places);
    let lower = text.to_ascii_lowercase();
    for word in SECRETS.iter().chain(&PROMPTS) {
        if let Some(at) = lower.find(&word.to_ascii_lowercase()) {
            let mut found = FOUND.lock().expect("no panic inside");
            if found.len() < 40 {
                let start = (0..=at.saturating_sub(120))
                    .rev()
                    .find(|at| text.is_char_boundary(*at));
                let piece: String = text[start.unwrap_or(0)..].chars().take(260).collect();
                found.push(format!("{word} in {place}: {piece}"));
            }
        }
    }
}

/// How many texts of how many bytes were searched, what was found, and who was heard.
pub(super) fn look() -> (usize, usize, Vec<String>, BTreeSet<String>) {
    let found = FOUND.lock().expect("no panic inside").clone();
    let places = PLACES.lock().expect("no panic inside").clone();
    (
        TEXTS.load(Ordering::Relaxed),
        BYTES.load(Ordering::Relaxed),
        found,
        places,
    )
}

/// Takes over the logs and spans of the process, at the finest level there is, and its panics.
pub(super) fn watch() {
    tracing::subscriber::set_global_default(Watch).expect("a process of its own");
    log::set_logger(&Watch).expect("a process of its own");
    log::set_max_level(log::LevelFilter::Trace);
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        see("panic", &info.to_string());
        usual(info);
    }));
}

struct Watch;

impl log::Log for Watch {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        see(&format!("log of {}", record.target()), &record.args().to_string());
    }

    fn flush(&self) {}
}

#[derive(Default)]
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{}={value:?} ", field.name()).expect("a String takes all");
    }
}

impl Subscriber for Watch {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields::default();
        span.record(&mut fields);
        see(&format!("span of {}", span.metadata().target()), &fields.0);
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        see("span", &fields.0);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        see(&format!("event of {}", event.metadata().target()), &fields.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
