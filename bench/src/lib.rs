//! Measures, side by side.
