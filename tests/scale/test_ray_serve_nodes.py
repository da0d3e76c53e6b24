"""The loss of one of two nodes, each with one CPU and one replica."""

import time

import numpy as np
import ray
from ray import serve
from ray.cluster_utils import Cluster

import bertrt.ray
from ray_serve import CLUSTER, EMBEDDER, STORE, TEXTS, Load, check_answers, start_serve


def test_the_loss_of_a_node(vectors: np.ndarray) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **CLUSTER})
    try:
        node = cluster.add_node(num_cpus=1, object_store_memory=STORE)
        ray.init(address=cluster.address, log_to_driver=False)
        url = start_serve()
        serve.run(bertrt.ray.app(EMBEDDER, num_replicas=2))
        with Load(url, TEXTS) as load:
            load.wait_for(40)
            killed = time.monotonic()
            cluster.remove_node(node, allow_graceful=False)
            removed = time.monotonic()
            load.wait_for(100)
        # The node does not end at once.
        failed = [one for one in load.sent if one.answer.status != 200]
        assert all(one.started <= removed and one.ended >= killed for one in failed), failed
        check_answers(load, vectors)
        late = [one for one in load.sent if one.started > removed]
        assert len(late) >= 50
        assert all(one.answer.status == 200 for one in late)
    finally:
        serve.shutdown()
        ray.shutdown()
        cluster.shutdown()
