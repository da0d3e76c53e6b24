"""Test that the cache drops what was not used for longest, by number and by size."""

from bertrt.kernels.engine.lru_cache import LruCache


def test_the_least_recently_used_entry_is_dropped() -> None:
    cache: LruCache[str, int] = LruCache(max_entries=2, max_size=100)
    cache.put("a", 1, 10)
    cache.put("b", 2, 10)
    assert cache.get("a") == 1
    cache.put("c", 3, 10)
    assert cache.get("b") is None
    assert (cache.get("a"), cache.get("c"), len(cache)) == (1, 3, 2)


def test_the_total_size_is_bounded() -> None:
    cache: LruCache[str, int] = LruCache(max_entries=9, max_size=100)
    for index, name in enumerate("abcd"):
        cache.put(name, index, 40)
    assert len(cache) == 2
    assert cache.fits(100)
    assert not cache.fits(101)
    cache.put("large", 9, 100)
    assert (len(cache), cache.get("large")) == (1, 9)
