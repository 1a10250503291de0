"""A queue that serves organizations in turn: who sends a lot waits behind itself."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """First in, first out for one organization; one each, in a circle, among them. Bounded."""

    def __init__(self, *, waiting_max: int, each_max: int) -> None:
        self._waiting_max = waiting_max
        self._each_max = each_max
        self._queues: OrderedDict[int, deque[T]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, organization_id: int, item: T) -> bool:
        """Queue up. False: there is no room for this organization, or for anybody."""
        queue = self._queues.get(organization_id)
        if self._count >= self._waiting_max or (queue and len(queue) >= self._each_max):
            return False
        if queue is None:
            queue = self._queues[organization_id] = deque()
        queue.append(item)
        self._count += 1
        return True

    def put_back(self, organization_id: int, item: T) -> None:
        """Queue up again at the head of its own, after the others' turn; there is always room."""
        self._queues.setdefault(organization_id, deque()).appendleft(item)
        self._count += 1

    def take(self) -> T | None:
        """The next one, if anybody waits; then it is the next organization's turn."""
        if not self._queues:
            return None
        organization_id, queue = self._queues.popitem(last=False)
        item = queue.popleft()
        self._count -= 1
        if queue:
            self._queues[organization_id] = queue  # at the end of the circle
        return item
