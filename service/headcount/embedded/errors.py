"""What the embedded database raises."""


class EmbeddedUnavailable(RuntimeError):
    """The embedded database cannot be had or started; the message names the cause and the remedy."""
