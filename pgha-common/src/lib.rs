//! What both sides of pgha's BPF maps share.
#![no_std]
