"""newsquake's topics: made when they are missing, refused when their shape would break the stream."""

import logging

from kafka import KafkaAdminClient
from kafka.admin import NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError

from deploy.kafka_client import client_options
from deploy.local.probe import kafka_problem
from deploy.settings import KafkaSettings

logger = logging.getLogger(__name__)


class TopicsError(RuntimeError):
    """The topics are not what newsquake needs; the message says which, why, and what mends it."""


class TopicsMismatchError(TopicsError):
    """A topic exists with another number of partitions: trying again cannot help."""


def wanted(settings: KafkaSettings) -> dict[str, int]:
    """Topic → partitions. A scored item lies in the partition of its document, so those two have the same number."""
    return {
        settings.documents_topic: settings.partitions,
        settings.scored_topic: settings.partitions,
        settings.dead_topic: 1,
        settings.alerts_topic: 1,
        settings.feedback_topic: 1,
    }


def compacted(settings: KafkaSettings) -> set[str]:
    """The topics that keep the last record of each key for ever, not all records for some days."""
    return {settings.alerts_topic, settings.feedback_topic}


def existing(admin: KafkaAdminClient, topics: dict[str, int]) -> dict[str, int]:
    """Topic → partitions of those of `topics` that the cluster has."""
    present = sorted(set(admin.list_topics()) & topics.keys())
    described = admin.describe_topics(present) if present else []
    return {topic["name"]: len(topic["partitions"]) for topic in described}


def mismatch(settings: KafkaSettings, found: dict[str, int]) -> str | None:
    """What is wrong with the partitions of the topics that exist, or None."""
    for topic in (settings.documents_topic, settings.scored_topic):
        if topic in found and found[topic] != settings.partitions:
            return (
                f"topic {topic} has {found[topic]} partitions, kafka.partitions says {settings.partitions}: set "
                f"kafka.partitions to {found[topic]}, or name other topics in kafka.documents_topic and "
                f"kafka.scored_topic (windows are kept by partition, so an existing topic is never changed)"
            )
    return None


def check_topics(bootstrap: str, settings: KafkaSettings) -> None:
    """Refuses partitions other than those that the settings say; makes nothing, and lets missing topics be.

    Raises:
        TopicsMismatchError: `documents` or `scored` exists with another number of partitions.
        TopicsError: the broker cannot be reached or refuses.
    """
    if problem := kafka_problem(bootstrap, client_options(settings)):
        raise TopicsError(f"Kafka at {bootstrap} is not reachable: {problem}")
    try:
        admin = KafkaAdminClient(bootstrap_servers=bootstrap, **client_options(settings))
        try:
            problem = mismatch(settings, existing(admin, wanted(settings)))
        finally:
            admin.close()
    except (KafkaError, OSError) as exc:
        raise TopicsError(f"cannot look at the topics on {bootstrap}: {type(exc).__name__}: {exc}") from exc
    if problem:
        raise TopicsMismatchError(problem)


def ensure_topics(bootstrap: str, settings: KafkaSettings) -> list[str]:
    """Makes the topics that are missing and returns their names.

    Safe to call from several processes at once.

    Raises:
        TopicsMismatchError: `documents` or `scored` exists with another number of partitions.
        TopicsError: the broker cannot be reached or refuses.
    """
    topics = wanted(settings)
    timed = {"retention.ms": str(settings.retention_days * 86_400_000)}
    configs = {name: {"cleanup.policy": "compact"} if name in compacted(settings) else timed for name in topics}
    if problem := kafka_problem(bootstrap, client_options(settings)):
        raise TopicsError(f"Kafka at {bootstrap} is not reachable: {problem}")
    try:
        admin = KafkaAdminClient(bootstrap_servers=bootstrap, **client_options(settings))
        try:
            found = existing(admin, topics)
            if problem := mismatch(settings, found):
                raise TopicsMismatchError(problem)
            made = []
            for name in sorted(topics.keys() - found.keys()):
                try:
                    admin.create_topics(
                        [NewTopic(name, topics[name], settings.replication_factor, topic_configs=configs[name])]
                    )
                    made.append(name)
                except TopicAlreadyExistsError:
                    logger.info("topic %s was made by another process meanwhile", name)
            if made and (problem := mismatch(settings, existing(admin, topics))):
                raise TopicsMismatchError(problem)
        finally:
            admin.close()
    except (KafkaError, OSError) as exc:
        raise TopicsError(f"cannot look at or make the topics on {bootstrap}: {type(exc).__name__}: {exc}") from exc
    for name in made:
        logger.info("made topic %s, %d partitions", name, topics[name])
    return made
