//! The objects of a file, read by lopdf and watched while they are: it knows neither a clock nor a budget, but calls a
//! function for each object.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};

use lopdf::{DecompressError, Document as Pdf, Error as PdfError, LoadOptions, Object};

use super::super::guard::{Clock, Guard, forget};
use super::super::refusal::Refusal;

/// Most values that the objects of a file hold on average: entries of dictionaries, items of arrays.
const VALUES_PER_OBJECT: usize = 5;
/// Memory that an array or a dictionary takes beyond its items, in values of about 140 bytes.
const CONTAINER: usize = 2;

thread_local! {
    /// The reading that goes on on this thread: lopdf takes a plain function, which can hold nothing.
    static WATCH: RefCell<Option<Watch>> = const { RefCell::new(None) };
}

#[derive(Debug)]
struct Watch {
    clock: Clock,
    values_left: usize,
    refusal: Option<Refusal>,
}

/// What ends a reading from inside.
struct Ended;

/// `force` looks for the objects themselves, for a file whose table of them leads nowhere.
pub(super) fn open(bytes: &[u8], guard: &Guard, force: bool) -> Result<Pdf, Refusal> {
    guard.check()?;
    let options = LoadOptions {
        max_decompressed_size: usize::try_from(guard.limits.inflated_bytes).ok(),
        force_reconstruct: force,
        filter: Some(look),
        ..LoadOptions::default()
    };
    let watch = Watch {
        clock: guard.clock(),
        values_left: guard.limits.objects.saturating_mul(VALUES_PER_OBJECT),
        refusal: None,
    };
    WATCH.set(Some(watch));
    let read = panic::catch_unwind(AssertUnwindSafe(|| Pdf::load_mem_with_options(bytes, options)));
    let watch = WATCH.take();
    let pdf = match read {
        Ok(read) => read.map_err(|error| refusal(&error, guard))?,
        Err(ended) => {
            forget(ended);
            let refusal = watch.and_then(|watch| watch.refusal);
            return Err(refusal.unwrap_or_else(|| Refusal::new("broken PDF")));
        }
    };
    if pdf.trailer.has(b"Encrypt") && !pdf.was_encrypted() {
        return Err(Refusal::encrypted("PDF"));
    }
    if pdf.objects.len() > guard.limits.objects {
        return Err(guard.limits.too_many_objects());
    }
    Ok(pdf)
}

/// Called for each object. Of one that stands in the file itself only whether something comes back counts; one of an
/// object stream becomes what comes back.
#[allow(clippy::unnecessary_wraps)] // the form that lopdf calls
fn look(id: (u32, u16), object: &mut Object) -> Option<((u32, u16), Object)> {
    let is_over = WATCH.with_borrow_mut(|watch| {
        let Some(watch) = watch else { return false };
        let values = values(object);
        watch.refusal = if watch.clock.is_over() {
            Some(watch.clock.limits.too_slow())
        } else if values > watch.values_left {
            Some(watch.clock.limits.too_many_objects())
        } else {
            watch.values_left -= values;
            None
        };
        watch.refusal.is_some()
    });
    if is_over {
        // Past the hook that would print it; caught in `open`.
        panic::resume_unwind(Box::new(Ended));
    }
    Some(match object {
        // Streams stand in the file itself, and copies of them would cost most.
        Object::Stream(_) => (id, Object::Null),
        object => (id, object.clone()),
    })
}

/// How many values stand in an object, itself among them, by the memory they take.
fn values(object: &Object) -> usize {
    let (mut open, mut count) = (vec![object], 0);
    while let Some(object) = open.pop() {
        count += 1;
        match object {
            Object::Array(items) => open.extend(items),
            Object::Dictionary(entries) => open.extend(entries.iter().map(|(_, value)| value)),
            Object::Stream(stream) => open.extend(stream.dict.iter().map(|(_, value)| value)),
            _ => continue,
        }
        count += CONTAINER;
    }
    count
}

/// What is said of a file whose table of objects leads nowhere.
pub(super) fn unlisted() -> Refusal {
    Refusal::new("broken PDF: no table of its objects")
}

fn refusal(error: &PdfError, guard: &Guard) -> Refusal {
    match error {
        PdfError::Decryption(_) | PdfError::InvalidPassword | PdfError::UnsupportedSecurityHandler(_) => {
            Refusal::encrypted("PDF")
        }
        PdfError::Decompress(DecompressError::MemoryLimitExceeded { .. }) => guard.limits.inflates_too_far(),
        PdfError::Xref(_) | PdfError::MissingXrefEntry => unlisted(),
        PdfError::Parse(error) => Refusal::new(format!("broken PDF: {error}")),
        _ => Refusal::new("broken PDF"),
    }
}
