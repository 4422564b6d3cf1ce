"""What a picture shows: where a promise about colours would be read as one about persons."""
