"""A bounded queue that serves owners in turn, so that no owner's work holds up another's.

With first come, first served, one client could fill the queue and make all others wait. Here each owner has a queue of
its own, and the next item is the first of the owner whose turn it is (round-robin, as in fair queueing).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")

FEW = 4  # places of an owner while the queue is half full
_LARGEST_SHARE = 8  # an owner gets at most an eighth of the places
_KEPT_SHARE = 8  # an eighth is reserved for known clients


class FairQueue(Generic[T]):
    """A queue of the items of many owners.

    Items without an owner share one queue with all places: they come from clients without rate limits.

    Args:
        places: total number of places.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._lines: OrderedDict[Hashable | None, deque[T]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def has_place(self, owner: Hashable | None, *, beyond: int = 0, known: bool = False) -> bool:
        """Return whether an owner may add an item.

        Args:
            owner: owner of the item; None for no particular owner.
            beyond: items that count as waiting but are not in this queue; negative if fewer count.
            known: whether the owner has been authenticated before, which opens the reserved places.
        """
        waiting = self._count + beyond
        if waiting >= self._places:
            return False
        if owner is None:
            return True
        if not known and waiting >= self._places - self._places // _KEPT_SHARE:
            return False
        crowded = waiting >= self._places // 2
        most = FEW if crowded else max(FEW, self._places // _LARGEST_SHARE)
        return len(self._lines.get(owner, ())) < most

    def ahead_of(self, owner: Hashable | None) -> int:
        """Return the number of items that would be served before an item that an owner adds now."""
        mine = len(self._lines.get(owner, ()))
        others = (len(line) for other, line in self._lines.items() if other != owner)
        return mine + sum(min(theirs, mine + 1) for theirs in others)

    def add(self, owner: Hashable | None, item: T) -> None:
        """Add an item at the end of its owner's queue."""
        self._lines.setdefault(owner, deque()).append(item)
        self._count += 1

    def take(self) -> T:
        """Remove and return the item whose turn it is. The owner's next item waits for all other owners.

        Raises:
            IndexError: the queue is empty.
        """
        if not self._lines:
            raise IndexError("the queue is empty")
        owner, line = self._lines.popitem(last=False)
        item = line.popleft()
        self._count -= 1
        if line:
            self._lines[owner] = line
        return item

    def remove(self, owner: Hashable | None, item: T) -> bool:
        """Remove an item that its owner no longer waits for, and return whether it was there."""
        line = self._lines.get(owner)
        if line is None or item not in line:
            return False
        line.remove(item)
        self._count -= 1
        if not line:
            del self._lines[owner]
        return True

    def clear(self) -> list[T]:
        """Remove all items and return them."""
        items = [item for line in self._lines.values() for item in line]
        self._lines.clear()
        self._count = 0
        return items
