"""The encoders of libav that outputs are made with, one module a library, and their choice."""
