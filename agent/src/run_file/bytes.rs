//! How a run file looks in bytes: a word, the version, the unpacked length, the checksum of it and of what follows, and
//! that packed by deflate: the run at a glance as JSON, then each record with its number, time, kind and body.

use super::{BYTES, RunFile, check_size};
use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};
use std::{
    io::{Read as _, Write as _},
    str::FromStr,
};
use stepwell_core::{
    Error, Result,
    store::{RecordKind, RunRecord},
};

const WORD: &[u8; 12] = b"stepwell.run";
/// The version this build writes, and the newest it reads.
const VERSION: u8 = 1;
/// Word, version, length, checksum.
pub(super) const HEADER: usize = 12 + 1 + 8 + 32;

pub(super) fn damaged(message: &str) -> Error {
    Error::Damaged {
        what: "the run file".into(),
        message: message.to_owned(),
        hint: "take the run out of its store again".into(),
    }
}

pub(super) fn write(file: &RunFile) -> Vec<u8> {
    let head = serde_json::to_vec(&file.head).expect("plain data serialises");
    let mut plain = Vec::with_capacity(file.records.iter().map(|record| record.body.len() + 40).sum());
    put_bytes(&mut plain, &head);
    plain.extend_from_slice(&(file.records.len() as u64).to_le_bytes());
    for record in &file.records {
        plain.extend_from_slice(&record.seq.to_le_bytes());
        plain.extend_from_slice(&record.at_ms.to_le_bytes());
        put_bytes(&mut plain, record.kind.as_str().as_bytes());
        put_bytes(&mut plain, &record.body);
    }
    let mut packer = DeflateEncoder::new(Vec::with_capacity(plain.len() / 4), Compression::default());
    let packed = packer
        .write_all(&plain)
        .and_then(|()| packer.finish())
        .expect("memory takes what is written");
    let mut out = Vec::with_capacity(HEADER + packed.len());
    out.extend_from_slice(WORD);
    out.push(VERSION);
    out.extend_from_slice(&(plain.len() as u64).to_le_bytes());
    out.extend_from_slice(&checksum(plain.len(), &packed));
    out.extend_from_slice(&packed);
    out
}

fn checksum(length: usize, packed: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(length as u64).to_le_bytes());
    hasher.update(packed);
    *hasher.finalize().as_bytes()
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// What a file announces, from its first [`HEADER`] bytes: its unpacked length.
pub(super) fn check_header(bytes: &[u8]) -> Result<usize> {
    if bytes.len() < HEADER || &bytes[..12] != WORD {
        return Err(damaged("it is no run file"));
    }
    let version = bytes[12];
    if version == 0 || version > VERSION {
        return Err(Error::UnknownVersion {
            what: "the run file".into(),
            found: version.into(),
            known: VERSION.into(),
        });
    }
    let length = take_length(&mut &bytes[13..])?;
    check_size(length)?;
    Ok(length)
}

pub(super) fn read(bytes: &[u8]) -> Result<RunFile> {
    let length = check_header(bytes)?;
    let rest = &bytes[13 + 8..];
    let (told, packed) = rest.split_at(32);
    if told != checksum(length, packed) {
        return Err(damaged("its checksum does not fit"));
    }
    // Never more than was announced, whatever the packed bytes would come to.
    let mut plain = Vec::new();
    DeflateDecoder::new(packed)
        .take(length as u64 + 1)
        .read_to_end(&mut plain)
        .map_err(|_| damaged("it cannot be unpacked"))?;
    if plain.len() != length {
        return Err(damaged("its length does not fit"));
    }
    let mut rest = &plain[..];
    let head = serde_json::from_slice(take_bytes(&mut rest)?)
        .map_err(|_| damaged("what it says of the run cannot be read"))?;
    let count = take_number(&mut rest)?;
    let mut records = Vec::new();
    for _ in 0..count {
        let (seq, at_ms) = (take_number(&mut rest)?, take_number(&mut rest)?);
        let kind = std::str::from_utf8(take_bytes(&mut rest)?)
            .map_err(|_| damaged("a kind of record is no word"))
            .and_then(RecordKind::from_str)?;
        let body = bytes::Bytes::copy_from_slice(take_bytes(&mut rest)?);
        records.push(RunRecord::new(seq, kind, at_ms, body));
    }
    if !rest.is_empty() {
        return Err(damaged("something follows its last record"));
    }
    Ok(RunFile { head, records })
}

fn take_number(rest: &mut &[u8]) -> Result<u64> {
    let (number, after) = rest
        .split_first_chunk::<8>()
        .ok_or_else(|| damaged("it is cut off"))?;
    *rest = after;
    Ok(u64::from_le_bytes(*number))
}

fn take_length(rest: &mut &[u8]) -> Result<usize> {
    let length = take_number(rest)?;
    Ok(usize::try_from(length).unwrap_or(usize::MAX).min(BYTES + 1))
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8]> {
    let length = take_length(rest)?;
    if length > rest.len() {
        return Err(damaged("it is cut off"));
    }
    let (bytes, after) = rest.split_at(length);
    *rest = after;
    Ok(bytes)
}
