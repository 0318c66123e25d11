#![no_main]
kquant_fuzz::target!(program, tensor_types);
