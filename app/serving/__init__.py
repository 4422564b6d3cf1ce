"""One request from upload to answer: admission, samples, mask, the promise as text."""
