// Packages of any Debian suite, through an apt state of our own: the host's
// sources, lists, pins and installed packages are neither read nor touched.
// apt checks the signatures; nothing is installed, packages are only unpacked.
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { capture, Failure } from './run.mjs';

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

export class ScratchApt {
  #folder;
  #options;

  /** `sources` are lines `URL SUITE`; `prefer` is the suite whose versions win. */
  constructor(folder, sources, { prefer } = {}) {
    this.#folder = folder;
    for (const part of ['lists/partial', 'cache/archives/partial', 'debs']) {
      mkdirSync(join(folder, part), { recursive: true });
    }
    if (!existsSync(KEYRING)) throw new Failure(`there is no ${KEYRING}: install debian-archive-keyring`);
    // an old suite's lists run out; its packages do not change any more
    const lines = sources.map(
      (source) => `deb [arch=amd64 signed-by=${KEYRING} check-valid-until=no] ${source} main`,
    );
    writeFileSync(join(folder, 'sources.list'), `${lines.join('\n')}\n`);
    writeFileSync(join(folder, 'status'), '');
    const settings = {
      'Dir::Etc::sourcelist': join(folder, 'sources.list'),
      'Dir::Etc::sourceparts': '/dev/null',
      'Dir::Etc::preferences': '/dev/null',
      'Dir::Etc::preferencesparts': '/dev/null',
      'Dir::State': folder,
      'Dir::State::Lists': join(folder, 'lists'),
      'Dir::State::status': join(folder, 'status'),
      'Dir::Cache': join(folder, 'cache'),
      'APT::Architecture': 'amd64',
      'APT::Architectures': 'amd64',
      'APT::Sandbox::User': 'root',
      'APT::Install-Recommends': 'false',
      'APT::Update::Error-Mode': 'any',
      'Acquire::Languages': 'none',
      'Acquire::Retries': '3',
      'Acquire::http::Timeout': '60',
      ...(prefer === undefined ? {} : { 'APT::Default-Release': prefer }),
    };
    this.#options = Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  }

  async #apt(args, cwd = this.#folder) {
    const { code, stdout, stderr } = await capture('apt-get', [...this.#options, ...args], {
      cwd,
      env: { LC_ALL: 'C.UTF-8', DEBIAN_FRONTEND: 'noninteractive' },
    });
    if (code === 0) return stdout;
    throw new Failure(`apt-get ${args.join(' ')} failed: ${stderr.trim() || stdout.trim()}`);
  }

  /** Fetches the lists of packages. */
  async update() {
    await this.#apt(['-q', 'update']);
  }

  /**
   * What an installation of `names` into an empty system would bring, as
   * `{ name, version }`, the newest that the suites have.
   */
  async resolve(names) {
    const plan = await this.#apt(['-q', '-y', '-s', 'install', ...names]);
    return [...plan.matchAll(/^Inst (\S+) \((\S+) /gm)].map(([, name, version]) => ({ name, version }));
  }

  /** Downloads those packages, checked by apt, and unpacks them below `root`. */
  async unpack(packages, root) {
    const folder = join(this.#folder, 'debs');
    await this.#apt(['-q', 'download', ...packages.map(({ name, version }) => `${name}=${version}`)], folder);
    mkdirSync(root, { recursive: true });
    // base-files first: where it belongs to the set it makes /lib and /bin links, which others write through
    const debs = readdirSync(folder).sort(
      (a, b) => Number(b.startsWith('base-files_')) - Number(a.startsWith('base-files_')),
    );
    for (const deb of debs) {
      const { code, stderr } = await capture('dpkg-deb', ['-x', join(folder, deb), root]);
      if (code !== 0) throw new Failure(`dpkg-deb -x ${deb} failed: ${stderr.trim()}`);
    }
  }
}
