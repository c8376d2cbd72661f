"""The vocabulary of a run: events, the callbacks that subscribe to them, and the emitters that deliver them."""

from amltk.scheduling.events.emitter import Dispatch as Dispatch
from amltk.scheduling.events.emitter import Emitter, Subscriber
from amltk.scheduling.events.emitter import deliver_now as deliver_now
from amltk.scheduling.events.emitter import raise_attribute_error as raise_attribute_error
from amltk.scheduling.events.event import Event
from amltk.scheduling.events.functions import callback_name as callback_name
from amltk.scheduling.events.functions import check_computable as check_computable
from amltk.scheduling.events.functions import take_names as take_names
from amltk.scheduling.events.subscription import Channel as Channel
from amltk.scheduling.events.subscription import Subscription, SubscriptionOptions

__all__ = ["Emitter", "Event", "Subscriber", "Subscription", "SubscriptionOptions"]
