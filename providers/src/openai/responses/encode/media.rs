//! Media → what a message or a tool result holds of them.

use super::super::wire::{Audio, File, Piece};
use crate::http::Vendor;
use base64::{Engine, engine::general_purpose::STANDARD};
use std::borrow::Cow;
use stepwell_core::{Media, MediaSource, Result};

/// Documents whose words the vendor reads out of a file (guide "File inputs").
const DOCUMENTS: &[&str] = &[
    "application/pdf",
    "application/json",
    "application/msword",
    "application/rtf",
    "application/vnd.ms-excel",
    "application/vnd.ms-powerpoint",
    "application/vnd.oasis.opendocument.text",
];
const OFFICE: &str = "application/vnd.openxmlformats-officedocument.";

/// A medium as the vendor takes it.
///
/// # Errors
/// [`stepwell_core::Error::Unsupported`] where it does not.
pub(super) fn piece<'a>(media: &'a Media, vendor: &Vendor) -> Result<Piece<'a>> {
    let kind = media.media_type.as_str();
    let is_image = kind.starts_with("image/");
    let is_document = DOCUMENTS.contains(&kind) || kind.starts_with(OFFICE);
    let data_url = |bytes: &[u8]| format!("data:{kind};base64,{}", STANDARD.encode(bytes));
    match &media.source {
        MediaSource::FileId(id) if is_image => Ok(Piece::InputImage {
            image_url: None,
            file_id: Some(id),
        }),
        MediaSource::FileId(id) => Ok(Piece::InputFile(File {
            file_id: Some(id),
            ..File::default()
        })),
        MediaSource::Url(url) if is_image => Ok(Piece::InputImage {
            image_url: Some(Cow::Borrowed(url)),
            file_id: None,
        }),
        MediaSource::Bytes(bytes) if is_image => Ok(Piece::InputImage {
            image_url: Some(Cow::Owned(data_url(bytes))),
            file_id: None,
        }),
        MediaSource::Url(url) if is_document || kind.starts_with("text/") => Ok(Piece::InputFile(File {
            file_url: Some(url),
            ..File::default()
        })),
        MediaSource::Bytes(bytes) if is_document => Ok(Piece::InputFile(File {
            // The vendor refuses bytes without a name.
            filename: Some(media.name.as_deref().unwrap_or(match kind {
                "application/pdf" => "document.pdf",
                _ => "document",
            })),
            file_data: Some(data_url(bytes)),
            ..File::default()
        })),
        MediaSource::Bytes(bytes) if kind.starts_with("text/") => Ok(Piece::InputText {
            text: String::from_utf8_lossy(bytes),
        }),
        MediaSource::Bytes(bytes) => {
            let format = match kind {
                "audio/wav" | "audio/x-wav" | "audio/wave" => "wav",
                "audio/mpeg" | "audio/mp3" => "mp3",
                _ => {
                    return Err(vendor.unsupported(
                        kind,
                        "send an image, a PDF or office document, text, or WAV or MP3 audio",
                    ));
                }
            };
            Ok(Piece::InputAudio {
                input_audio: Audio {
                    data: STANDARD.encode(bytes),
                    format,
                },
            })
        }
        _ => Err(vendor.unsupported(&format!("{kind} by its address"), "send its bytes")),
    }
}
