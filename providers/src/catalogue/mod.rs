//! [`Catalogue`]: what is known of models: windows, longest answers, abilities, prices with their tiers and days.
//!
//! The figures are data (`data/models.json`, made by `data/models.py` from two published tables) with a source and
//! a day per row. They are read when the first model is made, never when the program starts. A host's own file is
//! laid over them field by field: the one named by `STEPWELL_MODELS`, or any with [`Catalogue::with_file`].

mod date;
mod name;
mod row;

pub(crate) use name::is_match;
pub use row::{CatalogueEntry, ModelKind};

use row::{File, Row, Source};
use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::{Arc, LazyLock, OnceLock},
};
use stepwell_core::{Error, ModelInfo, Price, PriceTable, Result};

/// The variable that names a file of the host's own.
const OVERRIDE_VAR: &str = "STEPWELL_MODELS";
/// Most bytes of such a file.
const OVERRIDE_BYTES: u64 = 16 << 20;

/// What is known of models. Clones share it.
///
/// ```
/// use stepwell_providers::Catalogue;
/// let known = Catalogue::built_in();
/// let entry = known.entry("anthropic", "claude-sonnet-5-20260301").expect("a dated name is known by its plain one");
/// assert_eq!(entry.info.model, "claude-sonnet-5");
/// assert!(entry.price("2026-11-01").expect("priced").input.is_some());
/// assert!(known.entry("anthropic", "claude-nobody-knows").is_none());
/// # Ok::<(), stepwell_core::Error>(())
/// ```
///
/// A file of the host's own looks like the built-in one; what it names is added or changed, the rest stays. Prices
/// are US dollars per million tokens (searches and requests per thousand); `price` changes single figures, `prices`
/// takes the place of all:
///
/// ```
/// # use stepwell_providers::Catalogue;
/// let ours = Catalogue::built_in().with_json(
///     r#"{"vendors":{"anthropic":[{"id":"claude-sonnet-5","price":{"input":1.5}}],
///                    "acme":[{"id":"m-1","window":32000,"can":"t","prices":[{"input":0.2,"output":0.8}]}]}}"#,
///     "our contract",
/// )?;
/// let price = ours.entry("anthropic", "claude-sonnet-5").and_then(|entry| entry.price("2026-11-01"));
/// assert_eq!(price.and_then(|price| price.input), Some(1_500_000));
/// # Ok::<(), stepwell_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Catalogue {
    vendors: Arc<BTreeMap<String, Shelf>>,
}

/// The models of one vendor, with their names.
#[derive(Clone, Debug, Default)]
struct Shelf {
    entries: Vec<CatalogueEntry>,
    /// Every full name, in lower case.
    names: HashMap<String, usize>,
    /// Names with a `*`, in the order of the file.
    patterns: Vec<(String, usize)>,
}

impl Shelf {
    fn put(&mut self, row: Row, vendor: &str, source: &str, date: &str) -> Result<()> {
        let names = row.names();
        let at = match self.names.get(&row.id.to_lowercase()) {
            // Only the entry of that very id: another name of it is no reason to change it.
            Some(&at) if self.entries[at].info.model.eq_ignore_ascii_case(&row.id) => at,
            _ => {
                self.entries.push(CatalogueEntry::new(vendor, &row.id));
                self.entries.len() - 1
            }
        };
        row.lay_over(&mut self.entries[at], source, date)?;
        for (position, name) in names.into_iter().enumerate() {
            let name = name.to_lowercase();
            if name.contains('*') {
                self.patterns.push((name, at));
            } else if position == 0 {
                self.names.insert(name, at);
            } else {
                // An id of its own goes before another's second name.
                self.names.entry(name).or_insert(at);
            }
        }
        Ok(())
    }

    fn full(&self, name: &str) -> Option<&CatalogueEntry> {
        self.names.get(name).map(|&at| &self.entries[at])
    }

    fn find(&self, name: &str) -> Option<&CatalogueEntry> {
        self.full(name)
            .or_else(|| name::undated(name).find_map(|plain| self.full(plain)))
            .or_else(|| {
                let hit = self
                    .patterns
                    .iter()
                    .find(|(pattern, _)| name::is_match(pattern, name));
                hit.map(|&(_, at)| &self.entries[at])
            })
    }
}

impl Catalogue {
    /// The figures of this build.
    pub fn built_in() -> Self {
        static BUILT_IN: LazyLock<Catalogue> = LazyLock::new(|| {
            let empty = Catalogue {
                vendors: Arc::default(),
            };
            empty
                .over(include_str!("../../data/models.json"), "the built-in catalogue")
                .expect("a test reads the built-in catalogue")
        });
        BUILT_IN.clone()
    }

    /// The one that models are described by: the built-in figures and, over them, the file that `STEPWELL_MODELS`
    /// names when it is first asked for.
    ///
    /// # Errors
    /// As [`Catalogue::with_file`]: a file that was meant to count is not passed over.
    pub fn global() -> Result<&'static Self> {
        static GLOBAL: OnceLock<Catalogue> = OnceLock::new();
        if let Some(known) = GLOBAL.get() {
            return Ok(known);
        }
        let made = match std::env::var_os(OVERRIDE_VAR).filter(|path| !path.is_empty()) {
            Some(path) => Self::built_in().with_file(path)?,
            None => Self::built_in(),
        };
        Ok(GLOBAL.get_or_init(|| made))
    }

    /// With a file of the host's own laid over it.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read, [`Error::InvalidInput`] when it is not of this form, and
    /// [`Error::LimitExceeded`] above 16 MiB.
    pub fn with_file(&self, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let io = |source| Error::io(format!("reading the models in {}", path.display()), source);
        if std::fs::metadata(path).map_err(io)?.len() > OVERRIDE_BYTES {
            return Err(Error::LimitExceeded {
                what: format!("{}", path.display()),
                limit: format!("{OVERRIDE_BYTES} bytes"),
            });
        }
        let text = std::fs::read_to_string(path).map_err(io)?;
        self.with_json(&text, &path.display().to_string())
    }

    /// With figures of the host's own laid over it; `source` names them in errors and prices.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the text is not of this form.
    pub fn with_json(&self, text: &str, source: &str) -> Result<Self> {
        self.over(text, source)
    }

    fn over(&self, text: &str, label: &str) -> Result<Self> {
        let file: File = serde_json::from_str(text)
            .map_err(|error| Error::invalid("models", format!("{label} cannot be read: {error}")))?;
        let mut vendors = (*self.vendors).clone();
        for (vendor, rows) in file.vendors {
            let shelf = vendors.entry(vendor.clone()).or_default();
            for row in rows {
                let (source, date) = Source::of(&file.sources, &row.from, &row.page, label);
                let date = row.date.clone().unwrap_or(date);
                shelf.put(row, &vendor, &source, &date)?;
            }
        }
        Ok(Self {
            vendors: Arc::new(vendors),
        })
    }

    /// What is known of a model, by its id, another name or a dated form of either.
    ///
    /// A vendor that serves the models of another (Azure, OpenRouter) has the other's facts where it has no row of
    /// its own; prices are never taken from elsewhere.
    pub fn entry(&self, vendor: &str, model: &str) -> Option<CatalogueEntry> {
        let name = model.trim().to_lowercase();
        if let Some(entry) = self.vendors.get(vendor).and_then(|shelf| shelf.find(&name)) {
            return Some(entry.clone());
        }
        let (homes, name): (&[&str], &str) = match vendor {
            "azure" => (
                &["openai", "anthropic", "deepseek", "xai", "mistral", "cohere"],
                &name,
            ),
            "openrouter" => {
                let (home, rest) = name.split_once('/')?;
                let rest = rest.split(':').next().unwrap_or(rest);
                match home {
                    "openai" => (&["openai"], rest),
                    "anthropic" => (&["anthropic"], rest),
                    "google" => (&["gemini"], rest),
                    "x-ai" => (&["xai"], rest),
                    "mistralai" => (&["mistral"], rest),
                    "deepseek" => (&["deepseek"], rest),
                    "cohere" => (&["cohere"], rest),
                    "voyageai" => (&["voyage"], rest),
                    _ => return None,
                }
            }
            _ => return None,
        };
        let found = homes
            .iter()
            .find_map(|home| self.vendors.get(*home)?.find(name))?;
        let mut entry = found.clone();
        entry.prices.clear();
        vendor.clone_into(&mut entry.info.provider);
        model.trim().clone_into(&mut entry.info.model);
        Some(entry)
    }

    /// Fills what a host left open: the window, the longest answer, abilities, and the price of today.
    pub(crate) fn describe(&self, info: &mut ModelInfo) {
        let Some(entry) = self.entry(&info.provider, &info.model) else {
            return;
        };
        if info.price.is_none() {
            info.price = entry.price(&date::today());
        }
        let known = entry.info;
        info.context_window = info.context_window.or(known.context_window);
        info.max_output_tokens = info.max_output_tokens.or(known.max_output_tokens);
        let (ours, known) = (&mut info.abilities, known.abilities);
        ours.tools = ours.tools.or(known.tools);
        ours.images = ours.images.or(known.images);
        ours.documents = ours.documents.or(known.documents);
        ours.audio = ours.audio.or(known.audio);
        ours.reasoning = ours.reasoning.or(known.reasoning);
        ours.structured_output = ours.structured_output.or(known.structured_output);
        ours.citations = ours.citations.or(known.citations);
    }

    /// The vendors it knows models of, sorted.
    pub fn vendors(&self) -> impl Iterator<Item = &str> {
        self.vendors.keys().map(String::as_str)
    }

    /// The models it knows of a vendor, in the order of the files.
    pub fn models(&self, vendor: &str) -> &[CatalogueEntry] {
        self.vendors.get(vendor).map_or(&[], |shelf| &shelf.entries)
    }
}

impl PriceTable for Catalogue {
    fn price(&self, provider: &str, model: &str, date: &str) -> Option<Price> {
        self.entry(provider, model)?.price(date)
    }
}

/// Lays what the catalogue knows under what the host said.
///
/// # Errors
/// As [`Catalogue::global`].
#[cfg(feature = "http")]
pub(crate) fn describe(info: &mut ModelInfo) -> Result<()> {
    Catalogue::global()?.describe(info);
    Ok(())
}

/// The day, for prices.
pub(crate) fn today() -> String {
    date::today()
}

#[cfg(test)]
mod tests;
