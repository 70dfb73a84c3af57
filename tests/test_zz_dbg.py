from tests.test_docker import *
@pytest.mark.slow
def test_dbg(buildah, container, config):
    settings = ["--listen", "tcp:0:interface=127.0.0.1", "--handler", "console"]
    command = buildah.argv("run", "--user", config["User"], container, "--", *config["Entrypoint"], *settings)
    with Program(command, env=buildah.env) as server:
        server.wait_for("try: ")
        for p in processes_below(server.pid):
            print(p, os.getpid(), Path(f"/proc/{p}/cmdline").read_bytes(), [l for l in Path(f"/proc/{p}/status").read_text().splitlines() if l.startswith(("NSpid","Sig","PPid","Name"))])

        pass
        assert 0
