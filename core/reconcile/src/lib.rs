//! Brings a kernel from what it has to what is wanted, one step at a time.
