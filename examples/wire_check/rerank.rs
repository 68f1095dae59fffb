//! Rerank of every vendor: recorded requests into a question and its documents, recorded answers into an order.

use super::{
    Allowed, Asked, Exchange, KEY, Notes, ReplayServer, Verdict, Wire, chat, difference, gist::shown,
    random::Random, vectors,
};
use async_trait::async_trait;
use serde_json::Value;
use stepwell::providers::{Ranking, VendorReranker};

const ALL: Allowed = Allowed {
    name: "top_of_all",
    reason: "as many as there are, or more, are all: nothing is said then",
};
const NOTHING: Allowed = Allowed {
    name: "nothing_asked",
    reason: "no hits are wanted, or there is no document: the answer is known and nothing is sent",
};
const OLD_PATH: Allowed = Allowed {
    name: "older_path",
    reason: "Cohere's /v1/rerank of a retired model takes and gives the same for these fields",
};
const IDLE: Allowed = Allowed {
    name: "null_or_default",
    reason: "`null`, and `false` for what is off by default, say what the field's absence says",
};

/// The wire.
#[derive(Debug)]
pub struct Rerank;

#[async_trait]
impl Wire for Rerank {
    fn takes(&self, exchange: &Exchange) -> bool {
        exchange.api == "rerank"
            && matches!(
                exchange.provider.as_str(),
                "voyage" | "cohere" | "llamacpp" | "openrouter"
            )
    }

    async fn check(&self, exchange: &Exchange, server: &ReplayServer) -> Verdict {
        let mut notes = Notes::default();
        let faults = check(exchange, server, &mut notes).await;
        Verdict::of(faults.unwrap_or_else(|fault| vec![fault]), notes)
    }
}

/// Places and the vendor's numbers, the best first.
fn order(exchange: &Exchange) -> Result<Vec<(usize, f64)>, String> {
    let answer = exchange.json()?;
    let list = answer["results"]
        .as_array()
        .or(answer["data"].as_array())
        .ok_or("the answer holds no results")?;
    let mut found: Vec<(usize, f64)> = list
        .iter()
        .map(|item| {
            let index = usize::try_from(item["index"].as_u64()?).ok()?;
            Some((index, item["relevance_score"].as_f64()?))
        })
        .collect::<Option<_>>()
        .ok_or("a result without its index or score")?;
    found.sort_by(|a, b| b.1.total_cmp(&a.1));
    Ok(found)
}

async fn check(exchange: &Exchange, server: &ReplayServer, notes: &mut Notes) -> Result<Vec<String>, String> {
    let asked = exchange.request.as_ref();
    let path = asked.map_or("/v1/rerank", |asked| asked.path.as_str());
    let model = exchange.model();
    let base = format!(
        "{}{}",
        server.url,
        path.strip_suffix("/rerank").unwrap_or_default()
    );
    let builder = match exchange.provider.as_str() {
        "voyage" => VendorReranker::voyage(model)
            .truncate(asked.is_some_and(|asked| asked.body["truncation"] == true))
            .base_url(base),
        "cohere" => VendorReranker::cohere(model).base_url(server.url.as_str()),
        vendor => VendorReranker::of_vendor(vendor, model)
            .map_err(|error| error.to_string())?
            .base_url(base),
    };
    let reranker = builder
        .api_key(KEY)
        .build()
        .map_err(|error| format!("no reranker: {error}"))?;
    let count = if exchange.status == 200 {
        order(exchange)?.len()
    } else {
        0
    };
    let (query, documents, top) = match asked {
        None => (
            "any".to_owned(),
            (0..count).map(|at| format!("document {at}")).collect(),
            count,
        ),
        Some(asked) => question(&asked.body)?,
    };
    let documents: Vec<&str> = documents.iter().map(String::as_str).collect();
    let mut random = Random::of(&exchange.id);
    let mut faults = Vec::new();
    for pieces in [
        vec![exchange.body.as_bytes().to_vec()],
        random.cut(exchange.body.as_bytes()),
    ] {
        server.take();
        server.expect(chat::answer(exchange, pieces));
        let made = reranker.rank(&query, &documents, top).await;
        let seen = server.take();
        if let ([], Ok(ranking), true) = (seen.as_slice(), &made, top == 0 || documents.is_empty()) {
            notes.allow(&NOTHING);
            if !ranking.ranked.is_empty() || count != 0 {
                faults.push("hits out of nothing".to_owned());
            }
            return Ok(faults);
        }
        let [sent] = seen.as_slice() else {
            return Err(match made {
                Err(error) => format!("request: sent {} times: {error}", seen.len()),
                Ok(_) => format!("request: sent {} times", seen.len()),
            });
        };
        if let Some(asked) = asked {
            faults.extend(compare_request(asked, sent, documents.len(), notes));
        }
        match made {
            Ok(ranking) if exchange.status == 200 => faults.extend(compare_order(exchange, &ranking)?),
            Ok(_) => faults.push(format!("a failure of status {} expected", exchange.status)),
            Err(error) if exchange.status == 200 => faults.push(format!("an order expected: {error}")),
            Err(error) => {
                faults.extend(vectors::failure(exchange, notes).compare(&error));
                if shown(&error).contains(KEY) {
                    faults.push("the key is in the error".to_owned());
                }
            }
        }
        if !faults.is_empty() {
            break;
        }
    }
    Ok(faults)
}

fn question(body: &Value) -> Result<(String, Vec<String>, usize), String> {
    let documents: Vec<String> = body["documents"]
        .as_array()
        .ok_or("no documents")?
        .iter()
        .map(|document| document.as_str().map(str::to_owned))
        .collect::<Option<_>>()
        .ok_or("a document that is no text")?;
    let top = body["top_n"].as_u64().or(body["top_k"].as_u64());
    let top = top
        .and_then(|top| usize::try_from(top).ok())
        .unwrap_or(documents.len());
    let query = body["query"].as_str().ok_or("no question")?.to_owned();
    Ok((query, documents, top))
}

fn compare_request(
    asked: &Asked,
    sent: &super::server::Request,
    count: usize,
    notes: &mut Notes,
) -> Vec<String> {
    let mut faults = Vec::new();
    if asked.path == "/v1/rerank" && sent.path == "/v2/rerank" {
        notes.allow(&OLD_PATH);
    } else if asked.path != sent.path {
        faults.push(format!(
            "request: path {} expected, {} sent",
            asked.path, sent.path
        ));
    }
    if !sent
        .header("authorization")
        .is_some_and(|value| value.contains(KEY))
    {
        faults.push("request: no key in `authorization`".to_owned());
    }
    let Ok(body) = serde_json::from_slice::<Value>(&sent.body) else {
        faults.push("request: the body is no JSON".to_owned());
        return faults;
    };
    let mut recorded = asked.body.clone();
    for top in ["top_n", "top_k"] {
        let is_all = |value: &Value| value.as_u64().is_some_and(|top| top >= count as u64);
        notes.drop_if(&mut recorded, top, is_all, &ALL);
        notes.drop_if(&mut recorded, top, Value::is_null, &IDLE);
    }
    for field in ["return_documents", "max_chunks_per_doc"] {
        notes.drop_if(
            &mut recorded,
            field,
            |value| value.is_null() || value == false,
            &IDLE,
        );
    }
    let found = difference::between(&recorded, &body).into_iter();
    faults.extend(found.map(|fault| format!("request: {fault}")));
    faults
}

fn compare_order(exchange: &Exchange, ranking: &Ranking) -> Result<Vec<String>, String> {
    let expected = order(exchange)?;
    let mut faults = Vec::new();
    let places: Vec<usize> = ranking.ranked.iter().map(|ranked| ranked.index).collect();
    let expected_places: Vec<usize> = expected.iter().map(|(index, _)| *index).collect();
    if places != expected_places {
        faults.push(format!("order {expected_places:?} expected, {places:?} there"));
    }
    let is_logit = exchange.provider == "llamacpp";
    for ((_, raw), ranked) in expected.iter().zip(&ranking.ranked) {
        let score = if is_logit {
            1.0 / (1.0 + (-raw).exp())
        } else {
            *raw
        };
        if (ranked.raw - raw).abs() > 1e-12 || (f64::from(ranked.score) - score).abs() > 1e-6 {
            faults.push(format!("score {score} of {raw} expected, {ranked:?} there"));
        }
        if !(0.0..=1.0).contains(&ranked.score) {
            faults.push(format!("a score of {}", ranked.score));
        }
    }
    let answer = exchange.json()?;
    let tokens = answer["usage"]["total_tokens"].as_u64();
    let searches = answer["meta"]["billed_units"]["search_units"].as_u64();
    if (ranking.usage.input_tokens, ranking.usage.searches) != (tokens, searches) {
        faults.push(format!(
            "usage: {tokens:?} tokens and {searches:?} searches expected, {:?} there",
            ranking.usage
        ));
    }
    if answer["usage"]["cost"].is_f64() && ranking.cost.is_none() {
        faults.push("the stated cost is not there".to_owned());
    }
    Ok(faults)
}
