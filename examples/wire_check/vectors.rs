//! Embeddings of every vendor: recorded requests into an embedder and its texts, recorded answers into rows.

use super::{
    Allowed, Asked, Exchange, Failure, KEY, Notes, ReplayServer, Verdict, Wire, chat, difference,
    gist::shown, random::Random,
};
use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use stepwell::{
    EmbedKind, Embedder, Embeddings, Error,
    providers::{VendorEmbedder, VendorEmbedderBuilder},
};

const ONE_TEXT: Allowed = Allowed {
    name: "one_text",
    reason: "a text by itself is the short form of a list of one",
};
const BASE64: Allowed = Allowed {
    name: "base64",
    reason: "we ask for base64, a quarter of the bytes; lists are read as well, as these recordings prove",
};
const SNAKE: Allowed = Allowed {
    name: "snake_case",
    reason: "Gemini takes a field's name in both forms",
};
const IDLE: Allowed = Allowed {
    name: "null_or_default",
    reason: "`null`, and `float` as output_dtype, say what the field's absence says",
};
const NO_CUT: Allowed = Allowed {
    name: "never_cut",
    reason: "Cohere is told not to cut a long text in silence; the recorder left that to the vendor",
};
const DEPLOYMENT: Allowed = Allowed {
    name: "deployment",
    reason: "Azure's path names the deployment, and what the body calls it does not count",
};
const FINAL_500: Allowed = Allowed {
    name: "llamacpp_final_500",
    reason: "llama.cpp says 500 to a text over its batch; the same text will be refused again, so it is a refusal",
};

/// The wire.
#[derive(Debug)]
pub struct Vectors;

/// What a recorded request says in our words.
struct Question {
    texts: Vec<String>,
    kind: EmbedKind,
    builder: VendorEmbedderBuilder,
}

#[async_trait]
impl Wire for Vectors {
    fn takes(&self, exchange: &Exchange) -> bool {
        exchange.api == "embeddings"
    }

    async fn check(&self, exchange: &Exchange, server: &ReplayServer) -> Verdict {
        let Some(asked) = &exchange.request else {
            return Verdict::Unsupported("the recording holds no request");
        };
        if asked.body.to_string().contains("inline_data") {
            return Verdict::Unsupported("an image beside a text: only texts are embedded");
        }
        let mut notes = Notes::default();
        let faults = check(exchange, asked, server, &mut notes).await;
        Verdict::of(faults.unwrap_or_else(|fault| vec![fault]), notes)
    }
}

fn texts(asked: &Asked) -> Option<Vec<String>> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let body = &asked.body;
    if let Some(requests) = body["requests"].as_array() {
        return requests
            .iter()
            .map(|request| text(&request["content"]["parts"][0]["text"]))
            .collect();
    }
    let input = match &body["input"] {
        Value::Null => &body["texts"],
        input => input,
    };
    match input {
        Value::Array(texts) => texts.iter().map(text).collect(),
        one => Some(vec![text(one)?]),
    }
}

fn question(exchange: &Exchange, asked: &Asked, url: &str) -> Result<Question, String> {
    let texts = texts(asked).ok_or("the texts are in no form this reader knows")?;
    let body = &asked.body;
    let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
    let base = |call: &str| format!("{url}{}", path.strip_suffix(call).unwrap_or_default());
    let model = exchange.model();
    let told = |name: &str| body[name].as_u64().and_then(|width| usize::try_from(width).ok());
    let first = &body["requests"][0];
    let dimension = told("dimensions")
        .or_else(|| told("output_dimension"))
        .or_else(|| {
            let width = first["outputDimensionality"]
                .as_u64()
                .or(first["output_dimensionality"].as_u64())?;
            usize::try_from(width).ok()
        });
    let of_vendor = |vendor: &str| {
        VendorEmbedder::of_vendor(vendor, model.clone())
            .map(|builder| builder.base_url(base("/embeddings")))
            .map_err(|error| error.to_string())
    };
    let mut builder = match exchange.provider.as_str() {
        "openai" => VendorEmbedder::openai(model.clone()).base_url(base("/embeddings")),
        "gemini" => {
            let made =
                VendorEmbedder::gemini(path.split(['/', ':']).nth(3).unwrap_or_default()).base_url(url);
            // The recorders said nothing of what their texts are for.
            made.without_input_types()
        }
        "voyage" => VendorEmbedder::voyage(model.clone())
            .base_url(base("/embeddings"))
            .truncate(body["truncation"] == true),
        "cohere" => VendorEmbedder::cohere(model.clone()).base_url(base("/v2/embed")),
        "azure_openai" => match path.strip_prefix("/openai/deployments/") {
            Some(rest) => {
                let deployment = rest.split('/').next().unwrap_or_default();
                let version = query.strip_prefix("api-version=").unwrap_or_default();
                VendorEmbedder::azure(deployment)
                    .base_url(url)
                    .api_version(version)
            }
            None => of_vendor("azure")?,
        },
        vendor => of_vendor(vendor)?,
    };
    builder = builder
        .api_key(KEY)
        // The recorder's own cut into calls.
        .max_batch_texts(texts.len())
        .max_batch_tokens(usize::MAX);
    if let Some(dimension) = dimension {
        builder = builder.dimension(dimension);
    } else if exchange.status != 200 {
        builder = builder.width(1);
    } else if matches!(exchange.provider.as_str(), "llamacpp" | "venice" | "azure_openai") {
        // Nobody but the host can know how wide these are.
        builder = builder.width(rows(exchange)?[0].len());
    }
    if body["encoding_format"] == "base64" {
        builder = builder.base64(true);
    }
    let is_query = body["input_type"] == "query" || body["input_type"] == "search_query";
    Ok(Question {
        texts,
        kind: if is_query {
            EmbedKind::Query
        } else {
            EmbedKind::Document
        },
        builder,
    })
}

/// The vectors as the vendor sent them, by index where there is one; floats by hand.
fn rows(exchange: &Exchange) -> Result<Vec<Vec<f64>>, String> {
    let answer = exchange.json()?;
    let list = |value: &Value| -> Option<Vec<f64>> {
        match value {
            Value::String(text) => {
                let bytes = STANDARD.decode(text).ok()?;
                let words = bytes.chunks(4).map(|word| word.try_into().ok());
                words
                    .map(|word: Option<[u8; 4]>| word.map(|word| f64::from(f32::from_le_bytes(word))))
                    .collect()
            }
            value => value.as_array()?.iter().map(Value::as_f64).collect(),
        }
    };
    let found: Option<Vec<Vec<f64>>> = if let Some(data) = answer["data"].as_array() {
        let mut data: Vec<&Value> = data.iter().collect();
        data.sort_by_key(|item| item["index"].as_u64());
        data.into_iter().map(|item| list(&item["embedding"])).collect()
    } else if let Some(rows) = answer["embeddings"]["float"].as_array() {
        rows.iter().map(list).collect()
    } else {
        let rows = answer["embeddings"]
            .as_array()
            .ok_or("the answer holds no vectors")?;
        rows.iter().map(|row| list(&row["values"])).collect()
    };
    found
        .filter(|rows| !rows.is_empty())
        .ok_or_else(|| "the answer holds no vectors".to_owned())
}

fn tokens(exchange: &Exchange) -> Result<Option<u64>, String> {
    let answer = exchange.json()?;
    Ok([
        &answer["usage"]["prompt_tokens"],
        &answer["usage"]["total_tokens"],
        &answer["usageMetadata"]["promptTokenCount"],
        &answer["meta"]["billed_units"]["input_tokens"],
    ]
    .into_iter()
    .find_map(Value::as_u64))
}

/// How the call fails, by what the vendors document of their bodies.
pub fn failure(exchange: &Exchange, notes: &mut Notes) -> Failure {
    let body = exchange.json().unwrap_or_default();
    let detail = if body["error"].is_null() {
        &body
    } else {
        &body["error"]
    };
    let message = [&detail["message"], &body["detail"], &body["error"]]
        .into_iter()
        .find_map(Value::as_str);
    let mut failure = Failure::of_status(exchange, message.map(str::to_owned));
    let words = [&detail["code"], &detail["type"], &detail["status"]];
    let says = |word: &str| words.iter().any(|value| **value == word);
    if says("model_not_found") || says("NOT_FOUND") || says("invalid_model") {
        failure.code = "not_found";
        failure.message = None;
        failure.status = None;
    }
    if exchange.status == 500 && message.is_some_and(|text| text.contains("too large to process")) {
        failure.code = "rejected";
        failure.is_retryable = false;
        notes.allow(&FINAL_500);
    }
    failure
}

async fn check(
    exchange: &Exchange,
    asked: &Asked,
    server: &ReplayServer,
    notes: &mut Notes,
) -> Result<Vec<String>, String> {
    let question = question(exchange, asked, &server.url)?;
    let embedder = question
        .builder
        .build()
        .map_err(|error| format!("no embedder: {error}"))?;
    let texts: Vec<&str> = question.texts.iter().map(String::as_str).collect();
    let mut random = Random::of(&exchange.id);
    let mut faults = Vec::new();
    for pieces in [
        vec![exchange.body.as_bytes().to_vec()],
        random.cut(exchange.body.as_bytes()),
    ] {
        server.take();
        server.expect(chat::answer(exchange, pieces));
        let made = embedder.embed(&texts, question.kind).await;
        let seen = server.take();
        if let ([], Err(Error::InvalidInput { .. }), 400, true) =
            (seen.as_slice(), &made, exchange.status, texts.contains(&""))
        {
            notes.refuse();
            return Ok(faults);
        }
        let [sent] = seen.as_slice() else {
            return Err(match made {
                Err(error) => format!("request: sent {} times: {error}", seen.len()),
                Ok(_) => format!("request: sent {} times", seen.len()),
            });
        };
        faults.extend(compare_request(exchange, asked, sent, notes));
        match made {
            Ok(made) if exchange.status == 200 => faults.extend(compare_rows(exchange, &made)?),
            Ok(_) => faults.push(format!("a failure of status {} expected", exchange.status)),
            Err(error) if exchange.status == 200 => faults.push(format!("vectors expected: {error}")),
            Err(error) => {
                faults.extend(failure(exchange, notes).compare(&error));
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

fn compare_request(
    exchange: &Exchange,
    asked: &Asked,
    sent: &super::server::Request,
    notes: &mut Notes,
) -> Vec<String> {
    let mut faults = Vec::new();
    if sent.path != asked.path {
        faults.push(format!(
            "request: path {} expected, {} sent",
            asked.path, sent.path
        ));
    }
    let header = match exchange.provider.as_str() {
        "gemini" => "x-goog-api-key",
        "azure_openai" => "api-key",
        _ => "authorization",
    };
    if !sent.header(header).is_some_and(|value| value.contains(KEY)) {
        faults.push(format!("request: no key in `{header}`"));
    }
    let Ok(mut body) = serde_json::from_slice::<Value>(&sent.body) else {
        faults.push("request: the body is no JSON".to_owned());
        return faults;
    };
    let mut recorded = asked.body.clone();
    if let input @ Value::String(_) = &mut recorded["input"] {
        *input = json!([input.take()]);
        notes.allow(&ONE_TEXT);
    } else if recorded["input"].is_null() {
        // Indexing put it there.
        recorded
            .as_object_mut()
            .map(|fields| fields.shift_remove("input"));
    }
    for field in ["output_dtype", "output_dimension", "input_type"] {
        let is_idle = |value: &Value| value.is_null() || (field == "output_dtype" && value == "float");
        notes.drop_if(&mut recorded, field, is_idle, &IDLE);
    }
    if recorded["encoding_format"].is_null() {
        recorded
            .as_object_mut()
            .map(|fields| fields.shift_remove("encoding_format"));
        notes.drop_if(&mut body, "encoding_format", |value| value == "base64", &BASE64);
    }
    for request in recorded["requests"].as_array_mut().into_iter().flatten() {
        notes.rename(request, "output_dimensionality", "outputDimensionality", &SNAKE);
    }
    if recorded["requests"].is_null() {
        recorded
            .as_object_mut()
            .map(|fields| fields.shift_remove("requests"));
    }
    if exchange.provider == "cohere" {
        notes.drop_if(&mut body, "truncate", |value| value == "NONE", &NO_CUT);
    }
    if asked.path.contains("/deployments/") && recorded["model"] != body["model"] {
        body["model"] = recorded["model"].clone();
        notes.allow(&DEPLOYMENT);
    }
    let found = difference::between(&recorded, &body).into_iter();
    faults.extend(found.map(|fault| format!("request: {fault}")));
    faults
}

fn compare_rows(exchange: &Exchange, made: &Embeddings) -> Result<Vec<String>, String> {
    let expected = rows(exchange)?;
    let mut faults = Vec::new();
    if made.len() != expected.len() {
        faults.push(format!("{} rows expected, {} there", expected.len(), made.len()));
    }
    for (at, (expected, row)) in expected.iter().zip(made.rows()).enumerate() {
        if expected.len() != row.len() {
            faults.push(format!(
                "row {at}: {} numbers expected, {} there",
                expected.len(),
                row.len()
            ));
            continue;
        }
        let length = expected.iter().map(|value| value * value).sum::<f64>().sqrt();
        // Recordings of Gemini and Mistral hold shortened vectors of length 0.4 to 0.7.
        let is_scaled = (length - 1.0).abs() > 0.01;
        let is_off = expected.iter().zip(row).any(|(expected, value)| {
            if is_scaled {
                (expected / length - f64::from(*value)).abs() > 1e-6
            } else {
                #[allow(clippy::cast_possible_truncation)] // the precision of a vector
                let expected = *expected as f32;
                expected.to_bits() != value.to_bits()
            }
        });
        if is_off {
            faults.push(format!("row {at}: other numbers"));
        }
    }
    let tokens = tokens(exchange)?;
    if made.usage.input_tokens != tokens {
        faults.push(format!(
            "usage: {tokens:?} expected, {:?} there",
            made.usage.input_tokens
        ));
    }
    if let Some(usd) = exchange.json()?["usage"]["cost"].as_f64() {
        // Stated in dollars to the tenth of a millionth at most.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a few millionths
        let micro = (usd * 1e7).round() as u64;
        if made.cost.map(|cost| cost.micro_usd) != Some(micro.div_ceil(10)) {
            faults.push(format!("cost: ${usd} expected, {:?} there", made.cost));
        }
    }
    Ok(faults)
}
