#!/bin/bash
# Debian's own systemd as the first process of namespaces of its own, on a throw-away copy of the
# machine's root. The network is the machine's; everything else is gone when that process is killed.
#
#   boot.sh boot WORLD NAME   WORLD: a folder that is there inside too, at the same path; NAME: of
#                             the control group that everything of it is in
#   boot.sh can WORLD NAME    whether that is possible here, without doing it
#   boot.sh clean WORLD NAME  removes the control group of one that was ended
#
# WORLD/etc, where it is there, is laid over the machine's /etc: what an earlier boot has left. The
# caller's process becomes the parent of the machine's first one: `kill -9` of either ends it all.
set -eu
stage=$1 WORLD=$2 NAME=$3

# The cgroup2 tree; mounted for this namespace where the machine has none.
groups() {
    at=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
    if [ -z "$at" ]; then
        at=$WORLD/cgroup2
        mkdir -p "$at"
        mount -t cgroup2 cgroup2 "$at"
    fi
}
again() { exec unshare --mount --propagation private bash "$0" "$1" "$WORLD" "$NAME"; }

case $stage in
boot) again group ;;
can) again try ;;
clean) again sweep ;;
group)
    # A group of its own: two machines at once must not see each other's.
    groups
    mkdir "$at/$NAME"
    echo $$ >"$at/$NAME/cgroup.procs"
    exec unshare --mount --pid --uts --ipc --cgroup --fork --kill-child --propagation private \
        bash "$0" inside "$WORLD" "$NAME"
    ;;
try)
    groups
    mkdir "$at/$NAME"
    rmdir "$at/$NAME"
    mkdir -p "$WORLD/machine"
    mount -t tmpfs tmpfs "$WORLD/machine"
    cd "$WORLD/machine"
    mkdir up work root
    mount -t overlay overlay -o lowerdir=/,upperdir=up,workdir=work root
    exec unshare --pid --uts --ipc --cgroup --fork --kill-child mount -t proc proc root/proc
    ;;
sweep)
    groups
    if [ -d "$at/$NAME" ]; then find "$at/$NAME" -depth -type d -exec rmdir {} \;; fi
    exit 0
    ;;
esac

top=$WORLD/machine
mkdir -p "$top"
mount -t tmpfs tmpfs "$top"
mkdir "$top/up" "$top/work" "$top/root"
root=$top/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$top/up,workdir=$top/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
for folder in run tmp dev; do mount -t tmpfs tmpfs "$root/$folder"; done
chmod 1777 "$root/tmp"
# Devices of its own: systemd makes links among them.
mkdir "$root/dev/pts" "$root/dev/shm"
for device in null zero full random urandom tty; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"
mkdir -p "$root$WORLD"
mount --bind "$WORLD" "$root$WORLD"

# Of what the machine has enabled nothing is started, only what a test enables.
rm -rf "$root"/etc/systemd/system "$root"/etc/systemd/user
mkdir -p "$root/etc/systemd/system" "$root/run/systemd/system"
mkdir "$root/etc/systemd/user"
ln -s /dev/null "$root/etc/systemd/user/dbus.socket"
if [ -d "$WORLD/etc" ]; then cp -a "$WORLD/etc/." "$root/etc/"; fi
# For the whole kernel, or pointless here.
for unit in systemd-sysctl.service systemd-binfmt.service systemd-modules-load.service \
    systemd-remount-fs.service systemd-udevd.service systemd-udev-trigger.service \
    systemd-logind.service systemd-timesyncd.service systemd-networkd.service \
    systemd-random-seed.service getty.target console-getty.service dbus.service dbus.socket \
    systemd-udevd-control.socket systemd-udevd-kernel.socket; do
    ln -sf /dev/null "$root/run/systemd/system/$unit"
done
# What logind does for a user's manager, without logind and a bus.
cat >"$root/run/systemd/system/user-runtime-dir@.service" <<'UNIT'
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=mkdir -p -m 0755 /run/user
ExecStart=install -d -m 0700 -o %i /run/user/%i
UNIT
mkdir "$root/run/systemd/system/user@.service.d"
printf '[Service]\nEnvironment=XDG_RUNTIME_DIR=/run/user/%%i\n' \
    >"$root/run/systemd/system/user@.service.d/runtime-dir.conf"
echo adwd-test >"$root/etc/hostname"
hostname adwd-test
mkdir "$root/run/old"
cd "$root"
pivot_root . run/old
umount -l /run/old
exec env -i container=adwdtest PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=multi-user.target
