//! Recorded conversations: what the model thought goes back byte for byte, in its place.
