//! A row of the catalogue, as it stands in a file and as it is asked for.

use super::date;
use serde::Deserialize;
use std::collections::BTreeMap;
use stepwell_core::{Error, ModelInfo, Price, PriceTier, Result};

/// What a model is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ModelKind {
    /// It talks.
    #[default]
    Chat,
    /// It makes vectors.
    Embedding,
    /// It puts texts in a better order.
    Rerank,
}

/// What is known of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CatalogueEntry {
    /// Vendor, id, window, longest answer, abilities. Its price is open: that depends on the day.
    pub info: ModelInfo,
    /// What it is for.
    pub kind: ModelKind,
    /// Length of its vectors by default, where it makes any.
    pub dimension: Option<usize>,
    /// Its prices by their first days, the oldest first.
    pub prices: Vec<Price>,
}

impl CatalogueEntry {
    pub(super) fn new(vendor: &str, id: &str) -> Self {
        Self {
            info: ModelInfo::new(vendor, id),
            kind: ModelKind::Chat,
            dimension: None,
            prices: Vec::new(),
        }
    }

    /// The price on a day (`YYYY-MM-DD`); `None` is unknown.
    pub fn price(&self, date: &str) -> Option<Price> {
        self.prices
            .iter()
            .rev()
            .find(|price| price.from.as_deref().is_none_or(|from| from <= date))
            // Before the first known day the oldest figure is the best there is.
            .or_else(|| self.prices.first())
            .cloned()
    }
}

/// A file of the catalogue.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    pub(super) sources: BTreeMap<String, Source>,
    pub(super) vendors: BTreeMap<String, Vec<Row>>,
}

/// Where a row is from.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Source {
    what: String,
    #[serde(default)]
    page: String,
    #[serde(default)]
    date: String,
}

impl Source {
    /// The sources that a row's letters name, in words, and the day of the first.
    pub(super) fn of(
        known: &BTreeMap<String, Self>,
        letters: &str,
        page: &str,
        label: &str,
    ) -> (String, String) {
        let found: Vec<&Self> = letters
            .chars()
            .filter_map(|letter| known.get(letter.encode_utf8(&mut [0; 4]) as &str))
            .collect();
        let Some(first) = found.first() else {
            return (label.to_owned(), String::new());
        };
        let words: Vec<String> = found
            .iter()
            .map(|source| match (source.page.as_str(), page) {
                ("", "") => source.what.clone(),
                ("", page) | (page, _) => format!("{} ({page})", source.what),
            })
            .collect();
        (words.join(", "), first.date.clone())
    }
}

/// One model in a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    pub(super) id: String,
    #[serde(default)]
    names: Vec<String>,
    kind: Option<ModelKind>,
    window: Option<u64>,
    out: Option<u64>,
    width: Option<usize>,
    /// Letters: `t` tools, `i` images, `d` documents, `a` audio, `r` reasoning, `s` structured output.
    #[serde(default)]
    can: String,
    #[serde(default)]
    cannot: String,
    /// Takes the place of all prices.
    prices: Option<Vec<Figures>>,
    /// Changes single figures of every price.
    price: Option<Figures>,
    #[serde(default)]
    pub(super) from: String,
    #[serde(default)]
    pub(super) page: String,
    pub(super) date: Option<String>,
}

/// Prices in US dollars.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Figures {
    from: Option<String>,
    input: Option<f64>,
    cache_read: Option<f64>,
    cache_write: Option<f64>,
    cache_write_1h: Option<f64>,
    output: Option<f64>,
    reasoning: Option<f64>,
    searches: Option<f64>,
    requests: Option<f64>,
    tiers: Option<Vec<Tier>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tier {
    above: u64,
    input: Option<f64>,
    cache_read: Option<f64>,
    cache_write: Option<f64>,
    cache_write_1h: Option<f64>,
    output: Option<f64>,
    reasoning: Option<f64>,
}

/// Dollars as millionths. The tables have six decimals at most, which a double keeps.
fn micro(usd: Option<f64>) -> Result<Option<u64>> {
    let Some(usd) = usd else { return Ok(None) };
    if !(0.0..1e9).contains(&usd) {
        return Err(Error::invalid(
            "models",
            "a price is below nought or no sum of dollars",
        ));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked above
    Ok(Some((usd * 1e6).round() as u64))
}

impl Figures {
    fn lay_over(&self, price: &mut Price) -> Result<()> {
        for (figure, into) in [
            (self.input, &mut price.input),
            (self.cache_read, &mut price.cache_read),
            (self.cache_write, &mut price.cache_write),
            (self.cache_write_1h, &mut price.cache_write_1h),
            (self.output, &mut price.output),
            (self.reasoning, &mut price.reasoning),
            (self.searches, &mut price.searches),
            (self.requests, &mut price.requests),
        ] {
            if let Some(figure) = micro(figure)? {
                *into = Some(figure);
            }
        }
        if let Some(tiers) = &self.tiers {
            price.tiers = tiers.iter().map(Tier::read).collect::<Result<_>>()?;
        }
        Ok(())
    }

    fn read(&self) -> Result<Price> {
        let mut price = Price::default();
        self.lay_over(&mut price)?;
        if let Some(from) = &self.from {
            if !date::is_day(from) {
                return Err(Error::invalid(
                    "models",
                    "write the first day of a price as YYYY-MM-DD",
                ));
            }
            price.from = Some(from.clone());
        }
        // The tables' own rule: what has no price of its own costs as much as what it is a part of.
        price.cache_read = price.cache_read.or(price.input);
        price.cache_write = price.cache_write.or(price.input);
        price.cache_write_1h = price.cache_write_1h.or(price.cache_write);
        for tier in &mut price.tiers {
            // Only where the flat figure was input's too; a flat price of its own holds in every tier.
            if self.cache_read.is_none() {
                tier.cache_read = tier.cache_read.or(tier.input);
            }
            if self.cache_write.is_none() {
                tier.cache_write = tier.cache_write.or(tier.input);
            }
            if self.cache_write_1h.is_none() {
                tier.cache_write_1h = tier.cache_write_1h.or(tier.cache_write);
            }
        }
        Ok(price)
    }
}

impl Tier {
    fn read(&self) -> Result<PriceTier> {
        let mut tier = PriceTier::above(self.above);
        tier.input = micro(self.input)?;
        tier.cache_read = micro(self.cache_read)?;
        tier.cache_write = micro(self.cache_write)?;
        tier.cache_write_1h = micro(self.cache_write_1h)?;
        tier.output = micro(self.output)?;
        tier.reasoning = micro(self.reasoning)?;
        Ok(tier)
    }
}

impl Row {
    /// The id, then the other names.
    pub(super) fn names(&self) -> Vec<String> {
        std::iter::once(&self.id).chain(&self.names).cloned().collect()
    }

    /// Changes what the row tells of, and leaves the rest.
    pub(super) fn lay_over(&self, entry: &mut CatalogueEntry, source: &str, date: &str) -> Result<()> {
        entry.kind = self.kind.unwrap_or(entry.kind);
        entry.dimension = self.width.or(entry.dimension);
        let info = &mut entry.info;
        info.context_window = self.window.or(info.context_window);
        info.max_output_tokens = self.out.or(info.max_output_tokens);
        for (letters, value) in [(&self.can, true), (&self.cannot, false)] {
            for letter in letters.chars() {
                let abilities = &mut info.abilities;
                let ability = match letter {
                    't' => &mut abilities.tools,
                    'i' => &mut abilities.images,
                    'd' => &mut abilities.documents,
                    'a' => &mut abilities.audio,
                    'r' => &mut abilities.reasoning,
                    's' => &mut abilities.structured_output,
                    _ => {
                        return Err(Error::invalid(
                            "models",
                            "an ability is one of the letters t, i, d, a, r, s",
                        ));
                    }
                };
                *ability = Some(value);
            }
        }
        if let Some(figures) = &self.prices {
            entry.prices = figures.iter().map(Figures::read).collect::<Result<_>>()?;
            entry.prices.sort_by(|a, b| a.from.cmp(&b.from));
            for price in &mut entry.prices {
                source.clone_into(&mut price.source);
                date.clone_into(&mut price.date);
            }
        }
        if let Some(figures) = &self.price {
            if entry.prices.is_empty() {
                entry.prices.push(Price::default());
            }
            for price in &mut entry.prices {
                figures.lay_over(price)?;
                price.source = if price.source.is_empty() {
                    source.to_owned()
                } else {
                    format!("{}, changed by {source}", price.source)
                };
                if !date.is_empty() {
                    date.clone_into(&mut price.date);
                }
            }
        }
        Ok(())
    }
}
