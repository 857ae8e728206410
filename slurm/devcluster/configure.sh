# Sourced by up.sh: makes the folder of a new cluster. Uses root, conf, cluster, host, address and the options.

make_folders() {
    mkdir -p "$root"/{etc,run,log,state,spool,dev,mysql}
    # Any user may submit: they must reach the munge socket and read the configuration.
    chmod 755 "$root" "$root"/{etc,run,log,state,spool,dev}
    chmod 700 "$root/mysql"
    touch "$root/.devcluster"
    (umask 077 && head -c 1024 /dev/urandom >"$root/etc/munge.key")
}

make_gpus() {
    # SLURM sets CUDA_VISIBLE_DEVICES only for real device nodes; 195 is NVIDIA's number, nothing ever opens them.
    local node number
    for node in $NODES; do
        mkdir -p "$root/dev/$node" "$root/spool/$node"
        for number in 0 1 2 3; do
            mknod "$root/dev/$node/nvidia$number" c 195 "$number" ||
                die "cannot make device files in $root: needs root with CAP_MKNOD"
        done
    done
}

# Sets port: the first of a row of free ports, for slurmctld, slurmdbd and four slurmd.
choose_ports() {
    local candidate offset
    for candidate in $(seq 16800 10 17800); do
        for offset in 0 1 2 3 4 5; do
            # A connection that succeeds means that somebody listens there.
            if (: >"/dev/tcp/$address/$((candidate + offset))") 2>/dev/null; then continue 2; fi
        done
        port=$candidate
        return
    done
    die "no free ports between 16800 and 17800"
}

write_configuration() {
    choose_ports
    write_slurm_conf >"$conf"
    write_gres_conf >"$root/etc/gres.conf"
    write_cgroup_conf >"$root/etc/cgroup.conf"
    if [ $dbd = yes ]; then
        (umask 077 && write_slurmdbd_conf >"$root/etc/slurmdbd.conf")
    fi
    printf 'host=%q address=%q own_name=%q\n' "$host" "$address" "$own_name" >"$root/etc/address"
}

write_slurm_conf() {
    local user_signal_off="#"
    [ $user_signal = no ] || user_signal_off=
    cat <<CONF
ClusterName=$cluster
SlurmctldHost=$host($address)
SlurmctldPort=$port
${user_signal_off}SlurmctldParameters=preempt_send_user_signal
#PrivateData=jobs
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket=$root/run/munge.socket,cred_expire=$requeue_delay
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$root/state
SlurmctldPidFile=$root/run/slurmctld.pid
SlurmctldLogFile=$root/log/slurmctld.log
SlurmdSpoolDir=$root/spool/%n
SlurmdPidFile=$root/run/slurmd-%n.pid
SlurmdLogFile=$root/log/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
MailProg=/bin/true
ReturnToService=2
SlurmdTimeout=$node_timeout
KillWait=$kill_wait
JobRequeue=$job_requeue
MaxArraySize=$max_array_size
MaxJobCount=$max_job_count
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,bf_interval=5,sched_interval=10
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
CONF
    write_accounting_lines
    write_nodes_and_partitions
}

write_accounting_lines() {
    if [ $dbd = yes ]; then
        cat <<CONF
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=$address
AccountingStoragePort=$((port + 1))
AccountingStoragePass=$root/run/munge.socket
AccountingStorageTRES=gres/gpu
CONF
        [ $limits = no ] || echo "AccountingStorageEnforce=associations,limits,qos"
    else
        echo "AccountingStorageType=accounting_storage/none"
    fi
}

write_nodes_and_partitions() {
    local node number=0
    for node in $NODES; do
        number=$((number + 1))
        echo "NodeName=$node NodeHostname=$host NodeAddr=$address Port=$((port + 1 + number)) CPUs=4 RealMemory=16000 Gres=gpu:v100:4"
    done
    cat <<CONF
PartitionName=DEFAULT Nodes=ALL State=UP DefaultTime=01:00:00 MaxTime=2-00:00:00
PartitionName=requeue Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=nograce PriorityTier=1 PreemptMode=REQUEUE GraceTime=0
PartitionName=cancel PriorityTier=1 PreemptMode=CANCEL GraceTime=20
PartitionName=urgent PriorityTier=10 PreemptMode=OFF
CONF
}

write_gres_conf() {
    local node
    for node in $NODES; do
        echo "NodeName=$node Name=gpu Type=v100 File=$root/dev/$node/nvidia[0-3]"
    done
}

write_cgroup_conf() {
    local major
    major=$(slurmd -V | sed 's/[^0-9]*\([0-9]*\).*/\1/')
    if [ "$major" -ge 23 ]; then
        echo "CgroupPlugin=disabled"
    else
        # By itself 22.05 takes v2 where the kernel has that alone; slurmd then failed to start on a virtual machine.
        if [ "$major" = 22 ]; then echo "CgroupPlugin=cgroup/v1"; fi
        echo "CgroupAutomount=no"
    fi
}

write_slurmdbd_conf() {
    cat <<CONF
AuthType=auth/munge
AuthInfo=socket=$root/run/munge.socket
DbdHost=$host
DbdAddr=$address
DbdPort=$((port + 1))
CommunicationParameters=NoInAddrAny
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct
PidFile=$root/run/slurmdbd.pid
LogFile=$root/log/slurmdbd.log
CONF
}
