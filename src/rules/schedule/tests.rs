//! Slots, reactive evaluation, reload.
