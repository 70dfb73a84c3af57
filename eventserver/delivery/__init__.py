"""From the journal to the handlers: each handler has a loop, a cursor and a pile of its own."""

from eventserver.delivery.decoding import Decoding
from eventserver.delivery.loop import Delivery
from eventserver.delivery.options import DeliveryOptions, RetryOptions

__all__ = ["Decoding", "Delivery", "DeliveryOptions", "RetryOptions"]
