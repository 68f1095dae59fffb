//! stepwell
