//! What programs read about the machine, made to agree with the limits.
