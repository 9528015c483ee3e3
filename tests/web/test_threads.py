"""Room that is given out in order, and threads that do not hold each other up."""

import asyncio
import threading

from hypothesis import given
from hypothesis import strategies as st

from manymatch.web.threads import Room, Threads


@given(st.integers(1, 20), st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), max_size=20))
def test_no_more_is_taken_than_there_is_and_the_first_is_first(most, wishes):
    taken, entered, room = [0], [], Room(most)

    async def one(place: int, size: int, turns: int) -> None:
        async with room.of(size):
            entered.append(place)
            taken[0] += min(size, most)
            assert taken[0] <= most
            for _ in range(turns):
                await asyncio.sleep(0)
            taken[0] -= min(size, most)

    async def everybody() -> None:
        await asyncio.gather(*(one(place, *wish) for place, wish in enumerate(wishes)))

    asyncio.run(everybody())
    assert entered == list(range(len(wishes))) and room._free == most


def test_whoever_gives_up_waiting_leaves_the_room_to_the_next():
    entered: list[str] = []

    async def story() -> None:
        room, leave = Room(2), asyncio.Event()

        async def one(name: str, size: int) -> None:
            async with room.of(size):
                entered.append(name)
                await leave.wait()

        tasks = [asyncio.ensure_future(one(name, size)) for name, size in (("a", 1), ("b", 2), ("c", 1), ("d", 2))]
        await asyncio.sleep(0)
        assert entered == ["a"]
        tasks[1].cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert entered == ["a", "c"]
        tasks[0].cancel()
        tasks[2].cancel()
        await asyncio.gather(*tasks[:3], return_exceptions=True)
        # Its turn has come, and it is cancelled before it could take it.
        tasks[3].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert room._free == 2

    asyncio.run(story())


def test_whoever_is_cancelled_just_before_there_is_room_takes_none_of_it():
    async def story() -> None:
        room = Room(1)

        async def one() -> str:
            async with room.of(1):
                return "entered"

        async with room.of(1):
            waiting = [asyncio.ensure_future(one()) for _ in range(2)]
            await asyncio.sleep(0)
            # It hears of that in the next turn of the loop, after the room was left.
            waiting[0].cancel()
        first, second = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(first, asyncio.CancelledError) and second == "entered"
        assert room._free == 1 and not room._waiting

    asyncio.run(story())


def test_searches_are_one_at_a_time_and_hold_up_nothing_else():
    async def story() -> None:
        threads, go, running = Threads(1), threading.Event(), []

        def search(name: str) -> str:
            running.append(name)
            assert go.wait(10) and running[-1] == name
            return name

        asked = [asyncio.ensure_future(threads.search(search, name)) for name in "ab"]
        assert await threads.read(lambda: "picture") == "picture"
        assert await threads.change(lambda: "changed") == "changed"
        assert running == ["a"]
        go.set()
        assert await asyncio.gather(*asked) == ["a", "b"]
        threads.close()

    asyncio.run(story())
