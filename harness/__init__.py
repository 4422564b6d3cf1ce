"""What tests and benchmarks share: real servers, pictures, hostile files, fakes."""
