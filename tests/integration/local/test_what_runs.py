"""What was measured is what runs, also after a restart: nothing comes from a folder that goes on changing."""

import os
import signal
import sys
import time

import httpx

from tests.support.product_env import OLD, ProductEnv, ended, found, kill

REAL = os.path.realpath(sys.executable)


async def test_a_link_out_of_the_folder_is_refused_before_anything_changes(living: ProductEnv) -> None:
    shop = living.service()
    app = shop.folder / "app" / "app.py"
    app.rename(shop.folder / "elsewhere.py")
    app.symlink_to(shop.folder / "elsewhere.py")

    planned = (await living.run("plan", str(shop.spec), "--json")).document
    document = ended(await shop.deploy(OLD), "preflight-failed", 14)

    assert "artifacts" in planned["preflight"]["closed_by"]
    reason = found(document, "preflight", "artifacts")["reason"]
    assert f"the link {app} leads out of its directory, to {shop.folder / 'elsewhere.py'}" in reason
    assert shop.state().revisions == {}


async def test_a_virtual_environments_script_runs_from_the_copy_also_when_it_is_started_again(
    living: ProductEnv,
) -> None:
    shop = living.service(platform={"run": [".venv/bin/serve", "app.py"], "instances": 1})
    made = shop.folder / "app" / ".venv"
    (made / "bin").mkdir(parents=True)
    (made / "pyvenv.cfg").write_text(f"home = {os.path.dirname(REAL)}\n")
    (made / "bin" / "python").symlink_to(REAL)
    (made / "bin" / "serve").write_text(
        f"#!{made}/bin/python\nimport runpy, sys\nrunpy.run_path(sys.argv[1], run_name='__main__')\n"
    )
    (made / "bin" / "serve").chmod(0o755)

    document = ended(await shop.deploy(OLD), "deployed", 0)

    assert f".venv/bin/python is {REAL}" in found(document, "preflight", "artifacts")["reason"]
    assert f"program:{REAL}" in document["plan"]["digests"]
    (made / "bin" / "serve").write_text(f"#!{made}/bin/python\nraise SystemExit('never measured')\n")
    (shop.folder / "app" / "app.py").write_text("raise SystemExit('never measured')\n")
    ((port, pid),) = shop.instances(OLD).items()
    await kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while (again := shop.instances(OLD).get(port)) in (None, pid) or not await _answers(f"http://127.0.0.1:{port}"):
        assert time.monotonic() < deadline, "it does not come back"
    assert again != pid
    assert await shop.answers() == {OLD}


async def _answers(url: str) -> bool:
    async with httpx.AsyncClient(trust_env=False, timeout=1) as client:
        try:
            return (await client.get(f"{url}/health")).status_code == 200
        except httpx.HTTPError:
            return False
