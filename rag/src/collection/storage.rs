//! [`Storage`]: what an index keeps of each vector.

use serde::Deserialize;

use crate::vector::format::Encoding;

/// What is kept of a vector. Int8 codes are always kept: they are what scans and graphs compare first.
///
/// Answers that [`crate::Strategy::is_exact`] calls exact are the nearest by what is kept. Where the embedder's vectors
/// differ by less than the rounding, their order may too: [`Storage::Int16`] keeps each value to 1/32,512 of the vector's
/// largest, which moves a cosine of 384 dimensions by less than .0002. Keep [`Storage::F32`] where the order has to be
/// that of the embedder.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Storage {
    /// Codes alone: 1 byte per dimension; scores are approximate.
    Codes,
    /// Codes, and a byte of what each leaves out, together 16-bit fixed point, which gives the best their exact order:
    /// 2 bytes per dimension. The default. A third smaller than codes beside 16-bit floats, and more exact.
    #[default]
    Int16,
    /// Codes, and the vectors as they came: 5 bytes per dimension.
    F32,
}

impl Storage {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Codes => "codes",
            Self::Int16 => "int16",
            Self::F32 => "f32",
        }
    }

    pub(super) fn encoding(self) -> Encoding {
        match self {
            Self::Codes => Encoding::Codes,
            Self::Int16 => Encoding::Codes16,
            Self::F32 => Encoding::CodesF32,
        }
    }

    pub(super) fn of(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Codes => Self::Codes,
            Encoding::Codes16 => Self::Int16,
            Encoding::CodesF32 => Self::F32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Metric;

    #[test]
    fn storages_and_metrics_are_read_by_the_names_they_are_told_by() {
        for storage in [Storage::Codes, Storage::Int16, Storage::F32] {
            let read: Storage = serde_json::from_value(storage.as_str().into()).expect("its name");
            assert_eq!(read, storage);
        }
        for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
            let read: Metric = serde_json::from_value(metric.name().into()).expect("its name");
            assert_eq!(read, metric);
        }
    }
}
