"""The vendor's SDK as it comes, talking to the twin over the pseudo-terminal."""

from __future__ import annotations

import time

import pytest
from dynamixel_sdk import COMM_SUCCESS, GroupSyncRead, GroupSyncWrite, PacketHandler, PortHandler

from robot.technician import SocketTechnician


@pytest.fixture
def line(lockstep):
    port = PortHandler(lockstep.port)
    assert port.openPort() and port.setBaudRate(1_000_000)
    yield port, PacketHandler(2.0)
    port.closePort()


def test_reads_writes_groups_errors_and_reboot(line, lockstep):
    port, bus = line
    assert bus.ping(port, 1) == (1020, COMM_SUCCESS, 0)
    assert bus.write1ByteTxRx(port, 1, 11, 0) == (COMM_SUCCESS, 0)
    assert bus.write1ByteTxRx(port, 1, 64, 1) == (COMM_SUCCESS, 0)
    assert bus.write1ByteTxRx(port, 1, 11, 3) == (COMM_SUCCESS, 7)  # locked while on
    assert bus.write2ByteTxRx(port, 1, 102, 2001) == (COMM_SUCCESS, 6)  # beyond the current limit
    technician = SocketTechnician(lockstep.technician)
    assert technician.record()["state"]["time_s"] == 0.0  # nothing so far let time pass

    read = GroupSyncRead(port, bus, 128, 8)
    assert read.addParam(1) and read.addParam(2)
    assert read.txRxPacket() == COMM_SUCCESS
    slow = [read.getData(servo, address, 4) for servo in (1, 2) for address in (128, 132)]
    assert read.fastSyncRead() == COMM_SUCCESS
    assert [read.getData(servo, address, 4) for servo in (1, 2) for address in (128, 132)] == slow
    assert bus.read4ByteTxRx(port, 2, 132) == (slow[3], COMM_SUCCESS, 0)

    write = GroupSyncWrite(port, bus, 102, 2)
    assert write.addParam(1, [100, 0])
    assert write.txPacket() == COMM_SUCCESS
    assert bus.read2ByteTxRx(port, 1, 102) == (100, COMM_SUCCESS, 0)
    assert technician.record()["state"]["time_s"] == pytest.approx(0.02)  # one command, one control period
    assert bus.reboot(port, 1) == (COMM_SUCCESS, 0)
    assert bus.read1ByteTxRx(port, 1, 64) == (0, COMM_SUCCESS, 0)
    technician.close()


def test_hang_up_switches_the_motor_off_and_the_next_program_is_served(line, lockstep):
    port, bus = line
    assert bus.write1ByteTxRx(port, 1, 64, 1) == (COMM_SUCCESS, 0)
    port.closePort()
    technician = SocketTechnician(lockstep.technician)
    end = time.monotonic() + 5
    while technician.record()["events"][-1]["event"] != "motor off" and time.monotonic() < end:
        time.sleep(0.005)
    assert technician.record()["events"][-1]["why"] == "hang-up"
    technician.close()
    assert port.openPort()
    assert bus.read1ByteTxRx(port, 1, 64) == (0, COMM_SUCCESS, 0)
