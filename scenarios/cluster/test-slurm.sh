#!/bin/sh
# A real Slurm array on this one machine: 3 tasks share a folder, one is killed and submitted again, and the merged
# sweep is that of a single process byte for byte. Needs root and Debian's slurm-wlm and munge, which it installs; every
# daemon's files are in a scratch folder, and the daemons end with the script.
set -eu
cd "$(dirname "$0")/../.."
orbitflow=$PWD/target/release/orbitflow
grid=$PWD/scenarios/cluster/grid.toml
command -v sbatch >/dev/null && command -v munged >/dev/null ||
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends slurm-wlm munge; }

work=$(mktemp -d)
# The scratch folder must be open to the users that the daemons drop to.
chmod 755 "$work"
host=$(hostname -s)
cleanup() {
    for daemon in slurmd slurmctld munged; do
        if [ -f "$work/$daemon.pid" ]; then kill "$(cat "$work/$daemon.pid")" 2>/dev/null || true; fi
    done
    rm -rf "$work"
}
trap cleanup EXIT INT TERM

mkdir -m 700 "$work/munge"
dd if=/dev/urandom of="$work/munge/key" bs=128 count=1 2>/dev/null
chmod 600 "$work/munge/key"
munged --key-file="$work/munge/key" --socket="$work/munge.socket" --pid-file="$work/munged.pid" \
    --log-file="$work/munge/log" --seed-file="$work/munge/seed" --force

cat > "$work/slurm.conf" <<CONF
ClusterName=orbitflow
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmctldPort=16817
SlurmdPort=16818
AuthType=auth/munge
AuthInfo=socket=$work/munge.socket
CryptoType=crypto/munge
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
JobRequeue=1
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=10 State=UP
CONF
mkdir "$work/state" "$work/spool"
export SLURM_CONF="$work/slurm.conf"
slurmctld
slurmd
for second in $(seq 30); do
    if sinfo -h -o %T | grep -q idle; then break; fi
    sleep 1
done
sinfo -h -o "%N %T %c CPUs"
sinfo -h -o %T | grep -q idle || { cat "$work"/slurm*.log; exit 1; }

"$orbitflow" sweep "$grid" --out "$work/single" --quiet --shard 0/1 > "$work/single.csv"

cd "$work"
submit() { ORBITFLOW=$orbitflow sbatch --parsable --wait --cpus-per-task=1 "$@" "$orbitflow_batch" "$grid" "$work/array"; }
orbitflow_batch=$OLDPWD/scenarios/cluster/slurm.sbatch
job=$(submit --array=1-3)
echo "array job $job: $(ls "$work/array" | tr '\n' ' ')"
cat orbitflow-"$job"-*.log
# As if the second task had been killed: its list and half of the points are not there.
rm "$work/array/shard-1-of-3.json"
find "$work/array/points" -name '*.json' | sort | sed -n '1~2p' | xargs rm
if "$orbitflow" merge "$work/array" --quiet > /dev/null 2> refused; then echo "a gap was merged"; exit 1; fi
grep "points are missing" refused
job=$(submit --array=1-3)
"$orbitflow" merge "$work/array" --quiet
cmp "$work/single/sweep.csv" "$work/array/sweep.csv"
cmp "$work/single/sweep.json" "$work/array/sweep.json"
diff -r "$work/single/points" "$work/array/points"
echo "merged = single process, byte for byte: $(wc -l < "$work/array/sweep.csv") lines, $(ls "$work/array/points" | wc -l) points"
