"""The tables are a function of the log."""

from streams.client import ModuleEventPublisher
from tests.acceptance.system import System, config, new_site, until
from tests.projections.dumps import dump as dump_tables


async def test_dropping_the_projections_gives_the_same_rows_again_and_leaves_the_sandbox_alone(system: System) -> None:
    site_id = new_site()
    async with system.working():
        await system.agent(site_id, config("maker", "event:make.*", model="slow"))
        async with ModuleEventPublisher(system.log) as publisher:
            for number in range(3):
                await publisher.publish(type="make.it", site_id=site_id, source="/make", id=str(number), data={})

        async def all_completed() -> bool:
            query = "SELECT count(*) FROM projections.ai_agent_executions WHERE site_id = $1 AND status = 'completed'"
            return bool(await system.pool.fetchval(query, site_id) == 3)

        await until(all_completed, "3 runs completed")
    before = await dump_tables(system.pool)
    left = await system.pool.fetch("SELECT * FROM sandbox.tasks ORDER BY id")
    assert len(left) >= 6

    await system.pool.execute("DROP SCHEMA projections CASCADE")
    async with system.working():

        async def same_again() -> bool:
            exists = await system.pool.fetchval("SELECT to_regclass('projections.projection_checkpoints') IS NOT NULL")
            return bool(exists) and await dump_tables(system.pool) == before

        await until(same_again, "the same rows")
    assert await system.pool.fetch("SELECT * FROM sandbox.tasks ORDER BY id") == left
