//! Macros of stepwell.
